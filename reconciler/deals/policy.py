"""Are the deals of a version enough? Policy and checked deals in, one decision out: pure.

Every piece of a version must have its deals, for one lost CAR makes the rest useless. A deal counts while it
is `active` or `claimed`; one that is expiring still holds the bytes and no longer counts, so that its
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
ON_THE_WAY = frozenset({DealState.AGGREGATING, DealState.OFFERED})


class Policy(Protocol):
    """What the index asks for: at least `min` deals for each piece, with at least `providers` different
    providers, and each renewed `renew_before` its end.
    """

    @property
    def min(self) -> int:
        """Deals."""

    @property
    def providers(self) -> int:
        """Different providers."""

    @property
    def renew_before(self) -> timedelta:
        """How long before its end a deal no longer counts."""


class DealVerdict(StrEnum):
    """What follows for one version on one target, the least urgent first."""

    SATISFIED = "satisfied"
    WAIT = "wait"  #: enough may be on the way
    BLOCKED = "blocked"  #: more are needed, and this target cannot be made to make them
    PUBLISH = "publish"  #: the bytes have to be sent again


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, why, and what a person may do; `unconfirmed` when deals count that no chain confirmed."""

    verdict: DealVerdict
    reason: str = ""
    hint: str = ""
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class DealAbility:
    """What a target that holds the bytes can do about missing deals: `writes`, it takes bytes; `renews`,
    sending it bytes it has leads to new deals. Without the second, publishing again would change nothing.
    """

    writes: bool
    renews: bool


def by_piece(pieces: Iterable[PieceCid], deals: Iterable[CheckedDeal]) -> dict[PieceCid, list[CheckedDeal]]:
    """The deals of each of `pieces`, in their order; deals of other pieces are left out."""
    found: dict[PieceCid, list[CheckedDeal]] = {piece: [] for piece in pieces}
    for deal in deals:
        if deal.piece in found:
            found[deal.piece].append(deal)
    return found


def decide(
    policy: Policy | None, deals: Mapping[PieceCid, Sequence[CheckedDeal]], place: DealAbility
) -> Decision:
    """What to do about the deals of one version: the most urgent verdict over its pieces.

    `deals` has every piece of the version, with no deals where none is known. Without a policy nothing is
    asked for.
    """
    if policy is None:
        return Decision(DealVerdict.SATISFIED)
    if not deals:
        return Decision(
            DealVerdict.BLOCKED,
            "its pieces are not known, so nothing can be said of its deals",
            "run where its bytes are: then its record gets them",
        )
    decisions = [_decide(policy, each, place) for each in deals.values()]
    order = list(DealVerdict)
    worst = max(decisions, key=lambda decision: order.index(decision.verdict))
    short = sum(decision.verdict is not DealVerdict.SATISFIED for decision in decisions)
    of_all = f"{short} of {len(decisions)} pieces: " if len(decisions) > 1 and short else ""
    unconfirmed = any(decision.unconfirmed for decision in decisions)
    return Decision(worst.verdict, of_all + worst.reason if worst.reason else "", worst.hint, unconfirmed)


def _decide(policy: Policy, deals: Sequence[CheckedDeal], place: DealAbility) -> Decision:
    """What to do about one piece."""
    good = {(deal.provider, deal.deal_id, deal.aggregate): deal for deal in deals if deal.state in COUNTS}
    providers = {deal.provider for deal in good.values()} - {None}
    unconfirmed = any(deal.state is DealState.CLAIMED for deal in good.values())
    if len(good) >= policy.min and len(providers) >= policy.providers:
        return Decision(DealVerdict.SATISFIED, unconfirmed=unconfirmed)
    reason = _shortfall(policy, len(good), len(providers), deals)
    if any(deal.state in ON_THE_WAY for deal in deals):
        return Decision(DealVerdict.WAIT, reason, unconfirmed=unconfirmed)
    if place.writes and place.renews:
        return Decision(DealVerdict.PUBLISH, reason, unconfirmed=unconfirmed)
    hint = (
        "it makes no new deals for what it has: add another target with deals, or ask for fewer"
        if place.writes
        else "it takes no bytes: add another target with deals"
    )
    return Decision(DealVerdict.BLOCKED, reason, hint, unconfirmed)


def _shortfall(policy: Policy, good: int, providers: int, deals: Sequence[CheckedDeal]) -> str:
    wanted = f"{good} of {policy.min} deals"
    if policy.providers > 1 or providers < good:
        wanted += f" with {providers} of {policy.providers} providers"
    others = [deal for deal in deals if deal.state not in COUNTS]
    states = [state for state in DealState if any(deal.state is state for deal in others)]
    told = [f"{sum(deal.state is state for deal in others)} {state.value}" for state in states]
    detail = next((deal.detail for deal in others if deal.detail), "")
    return wanted + (f" ({', '.join(told)}{': ' + detail if detail else ''})" if told else "")
