"""What follows from a policy: never satisfied with less than it asks for, and always with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.deals.interface import CheckedBy, CheckedDeal, DealState
from reconciler.deals.policy import COUNTS, DealAbility, DealVerdict, decide_deals
from tests.deals.samples import NOW, PIECES, checked


@dataclass(frozen=True)
class Wanted:
    min: int = 2
    providers: int = 2
    renew_before: timedelta = timedelta(days=30)


CAN = DealAbility(writes=True, renews=True)
ONCE = DealAbility(writes=True, renews=False)
READS = DealAbility(writes=False, renews=False)

ACTIVE = checked(DealState.ACTIVE)
SECOND = checked(DealState.ACTIVE, deal_id=2, provider="f02")
GONE = CheckedDeal(PIECES[0], DealState.LOST, CheckedBy.SERVICE, NOW, detail="named no more")

CASES = [
    ([ACTIVE, SECOND], CAN, "satisfied", ""),
    ([ACTIVE, checked(DealState.CLAIMED, deal_id=2, provider="f02")], CAN, "satisfied", ""),
    ([ACTIVE, SECOND, checked(DealState.EXPIRED, deal_id=3)], CAN, "satisfied", ""),
    ([ACTIVE, ACTIVE], CAN, "publish", "1 of 2 deals with 1 of 2 providers"),
    ([ACTIVE, checked(DealState.ACTIVE, deal_id=2)], CAN, "publish", "2 of 2 deals with 1 of 2 providers"),
    ([ACTIVE, checked(DealState.EXPIRING, deal_id=2, provider="f02")], CAN, "publish", "1 expiring"),
    ([ACTIVE, checked(DealState.EXPIRING, deal_id=2, provider="f02")], ONCE, "blocked", "1 expiring"),
    ([ACTIVE, checked(DealState.AGGREGATING, deal_id=2)], CAN, "wait", "1 aggregating"),
    ([ACTIVE, checked(DealState.OFFERED, deal_id=2)], READS, "wait", "1 offered"),
    ([ACTIVE, checked(DealState.LATE, deal_id=2)], CAN, "wait", "1 late"),
    ([checked(DealState.SLASHED), checked(DealState.EXPIRED, deal_id=2)], ONCE, "blocked", "0 of 2"),
    ([checked(DealState.SLASHED), checked(DealState.EXPIRED, deal_id=2)], CAN, "publish", "1 slashed"),
    ([checked(DealState.UNPROVED)], ONCE, "blocked", "1 unproved"),
    ([checked(DealState.LOST)], ONCE, "blocked", "1 lost"),
    ([GONE], ONCE, "blocked", "1 lost: named no more"),
    ([GONE], READS, "blocked", "1 lost"),
    ([], ONCE, "blocked", "0 of 2 deals"),
    ([], READS, "blocked", "0 of 2 deals"),
]  # fmt: skip


@pytest.mark.parametrize(("deals", "place", "verdict", "reason"), CASES)
def test_what_follows_for_one_piece(
    deals: list[CheckedDeal], place: DealAbility, verdict: str, reason: str
) -> None:
    decision = decide_deals(Wanted(), {PIECES[0]: deals}, place)
    assert decision.verdict.value == verdict
    assert reason in decision.reason
    assert bool(decision.hint) == (verdict == "blocked")
    assert decision.unconfirmed == any(deal.state is DealState.CLAIMED for deal in deals)


def test_one_piece_that_is_short_decides_for_the_version() -> None:
    good = {PIECES[0]: [ACTIVE, SECOND], PIECES[1]: [ACTIVE, SECOND]}
    assert decide_deals(Wanted(), good, ONCE).verdict is DealVerdict.SATISFIED
    short = good | {PIECES[2]: [checked(DealState.OFFERED)]}
    decision = decide_deals(Wanted(), short, ONCE)
    assert (decision.verdict, decision.reason[:16]) == (DealVerdict.WAIT, "1 of 3 pieces: 0")
    lost = short | {PIECES[3]: list[CheckedDeal]()}
    assert decide_deals(Wanted(), lost, CAN).verdict is DealVerdict.PUBLISH
    assert decide_deals(Wanted(), lost, ONCE).reason.startswith("2 of 4 pieces")


def test_without_a_policy_nothing_is_required() -> None:
    assert decide_deals(None, {PIECES[0]: []}, CAN).verdict is DealVerdict.SATISFIED


def test_a_version_with_unknown_pieces_is_blocked() -> None:
    decision = decide_deals(Wanted(), {}, CAN)
    assert decision.verdict is DealVerdict.BLOCKED
    assert "not known" in decision.reason
    assert decision.hint


providers = st.sampled_from(["f01", "f02"])
some_deals = st.lists(
    st.builds(checked, st.sampled_from(DealState), st.just(0), st.integers(1, 3), providers), max_size=6
)


@given(some_deals, st.sampled_from([CAN, ONCE, READS]), st.integers(1, 3), st.integers(1, 2))
def test_too_few_deals_are_never_satisfied_and_enough_always(
    deals: list[CheckedDeal], place: DealAbility, least: int, providers: int
) -> None:
    decision = decide_deals(Wanted(least, providers), {PIECES[0]: deals}, place)
    good = [deal for deal in deals if deal.state in COUNTS]
    enough = (
        len({(deal.deal_id, deal.provider) for deal in good}) >= least
        and len({deal.provider for deal in good}) >= providers
    )
    assert (decision.verdict is DealVerdict.SATISFIED) == enough
    assert enough or decision.reason
    assert decision.verdict is not DealVerdict.PUBLISH or place.writes
