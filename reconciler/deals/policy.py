"""The decision whether the deals of a version satisfy its policy. Pure.

Every piece of a version must have its deals, because one lost CAR makes the others useless. A deal counts
while it is `active` or `claimed`; an expiring one still stores the bytes and no longer counts, so that its
successor is made in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedDeal, DealState

COUNTS = frozenset({DealState.ACTIVE, DealState.CLAIMED})
IN_PROGRESS = frozenset({DealState.AGGREGATING, DealState.OFFERED, DealState.LATE})


class Policy(Protocol):
    """The deals that the index requires for each piece.

    At least `min` deals with at least `providers` different providers, each renewed `renew_before` its end.
    """

    @property
    def min(self) -> int:
        """The required number of deals for each piece."""

    @property
    def providers(self) -> int:
        """The required number of different providers for each piece."""

    @property
    def renew_before(self) -> timedelta:
        """The time before its end from which on a deal no longer counts."""


class DealVerdict(StrEnum):
    """The consequence for one version on one target, in ascending order of urgency."""

    SATISFIED = "satisfied"
    WAIT = "wait"  #: enough deals may be in progress
    BLOCKED = "blocked"  #: more are needed, and this target cannot make them
    PUBLISH = "publish"  #: the bytes must be sent again


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with its reason and a hint; `unconfirmed` when deals count that the chain did not confirm."""

    verdict: DealVerdict
    reason: str = ""
    hint: str = ""
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class DealAbility:
    """The abilities of a target to obtain missing deals for bytes that it holds.

    `writes`: it accepts bytes. `renews`: sending bytes that it has already leads to new deals; without it,
    publishing again would change nothing.
    """

    writes: bool
    renews: bool


def group_by_piece(
    pieces: Iterable[PieceCid], deals: Iterable[CheckedDeal]
) -> dict[PieceCid, list[CheckedDeal]]:
    """Return the deals of each of `pieces`, in their order; deals of other pieces are left out."""
    found: dict[PieceCid, list[CheckedDeal]] = {piece: [] for piece in pieces}
    for deal in deals:
        if deal.piece in found:
            found[deal.piece].append(deal)
    return found


def decide_deals(
    policy: Policy | None, deals: Mapping[PieceCid, Sequence[CheckedDeal]], place: DealAbility
) -> Decision:
    """Return the most urgent decision over the pieces of one version.

    `deals` has every piece of the version, also those without known deals. Without a policy nothing is
    required.
    """
    if policy is None:
        return Decision(DealVerdict.SATISFIED)
    if not deals:
        return Decision(
            DealVerdict.BLOCKED,
            "its pieces are not known, so its deals cannot be checked",
            "run where its bytes are, to write its pieces into its record",
        )
    decisions = [_decide_piece(policy, each, place) for each in deals.values()]
    order = list(DealVerdict)
    worst = max(decisions, key=lambda decision: order.index(decision.verdict))
    short = sum(decision.verdict is not DealVerdict.SATISFIED for decision in decisions)
    of_all = f"{short} of {len(decisions)} pieces: " if len(decisions) > 1 and short else ""
    unconfirmed = any(decision.unconfirmed for decision in decisions)
    return Decision(worst.verdict, of_all + worst.reason if worst.reason else "", worst.hint, unconfirmed)


def _decide_piece(policy: Policy, deals: Sequence[CheckedDeal], place: DealAbility) -> Decision:
    """Return the decision for one piece."""
    good = {(deal.provider, deal.deal_id, deal.aggregate): deal for deal in deals if deal.state in COUNTS}
    providers = {deal.provider for deal in good.values()} - {None}
    unconfirmed = any(deal.state is DealState.CLAIMED for deal in good.values())
    if len(good) >= policy.min and len(providers) >= policy.providers:
        return Decision(DealVerdict.SATISFIED, unconfirmed=unconfirmed)
    reason = _shortfall(policy, len(good), len(providers), deals)
    if any(deal.state in IN_PROGRESS for deal in deals):
        return Decision(DealVerdict.WAIT, reason, unconfirmed=unconfirmed)
    if place.writes and place.renews:
        return Decision(DealVerdict.PUBLISH, reason, unconfirmed=unconfirmed)
    hint = (
        "it makes no new deals for bytes that it has: add another target with deals, or require fewer"
        if place.writes
        else "it accepts no bytes: add another target with deals"
    )
    return Decision(DealVerdict.BLOCKED, reason, hint, unconfirmed)


def _shortfall(policy: Policy, good: int, providers: int, deals: Sequence[CheckedDeal]) -> str:
    wanted = f"{good} of {policy.min} deals"
    if policy.providers > 1 or providers < good:
        wanted += f" with {providers} of {policy.providers} providers"
    others = [deal for deal in deals if deal.state not in COUNTS]
    states = [state for state in DealState if any(deal.state is state for deal in others)]
    counts = [f"{sum(deal.state is state for deal in others)} {state.value}" for state in states]
    detail = next((deal.detail for deal in others if deal.detail), "")
    return wanted + (f" ({', '.join(counts)}{': ' + detail if detail else ''})" if counts else "")
