"""The state of one copy of a piece, from what the chain says about its data set. Pure.

The order of the questions decides, because the contracts leave old answers behind: a deleted data set reads
as zeros, a set whose provider fell silent goes on saying that this period was proved, and one that was
terminated is still live. `lastProvenEpoch` is set when a set is created, so it is not proof; only the proving
periods are.
"""

from __future__ import annotations

from datetime import datetime

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.chain import Chain
from reconciler.deals.interface import CheckedBy, CheckedDeal, DealState
from reconciler.deals.onchain.interface import (
    CopyState,
    DataSetState,
    EvmAddress,
    PieceCopy,
)
from reconciler.deals.onchain.money import piece_leaves
from reconciler.errors import Reason

RECENT_PERIODS = 3  #: finished proving periods that must all have been proved


def judge_copy(
    piece: PieceCid,
    state: DataSetState | Reason | None,
    *,
    payer: EvmAddress,
    service: EvmAddress,
    head: int,
    period: int,
    recorded_id: int | None = None,
) -> PieceCopy:
    """Return the copy of `piece` in one data set, as of epoch `head`.

    `state` is None when there is no such data set of ours, and a Reason when the chain could not be asked or
    understood. `service` is the contract that the set must answer to, `period` the epochs of a proving period
    and `recorded_id` the id that the piece had when it was added, None when that is not known.
    """
    if isinstance(state, Reason):
        return PieceCopy(piece, CopyState.UNKNOWN, detail=state.text)
    if state is None:
        return PieceCopy(piece, CopyState.ABSENT, detail="the provider has no data set of ours")
    account = state.account

    def copy(found: CopyState, detail: str = "", until: int | None = None) -> PieceCopy:
        return PieceCopy(piece, found, account.provider_id or None, account.id, ids, until, detail)

    ids = tuple(each.id for each in state.pieces if each.piece == piece)
    if not account.rail:
        return copy(CopyState.ABSENT, f"data set {account.id} was deleted, or never existed")
    if account.payer != payer:
        return copy(CopyState.NOT_OURS, f"data set {account.id} is paid by {account.payer}")
    if not state.live:
        return copy(CopyState.ABSENT, f"data set {account.id} was deleted")
    if state.listener != service:
        return copy(CopyState.NOT_OURS, f"data set {account.id} belongs to the service {state.listener}")
    if not ids:
        return copy(*_without_piece(piece, state, recorded_id))
    if state.removals.issuperset(ids):
        return copy(CopyState.REMOVAL_SCHEDULED, "it leaves the data set after the provider's next proof")
    if account.end:
        ending = "ends" if head <= account.end else "ended"
        return copy(CopyState.TERMINATED, f"the service {ending} at epoch {account.end}", account.end)
    return copy(*_proving(state, ids, head, period))


def _without_piece(piece: PieceCid, state: DataSetState, recorded_id: int | None) -> tuple[CopyState, str]:
    for each in state.pieces:
        if each.id == recorded_id:
            found = "a CID that is not a piece CID" if each.piece is None else str(each.piece)
            return CopyState.WRONG_PIECE, f"piece {each.id} of data set {state.account.id} is {found}"
        if each.piece is not None and each.piece.root == piece.root:
            return (
                CopyState.WRONG_PIECE,
                f"data set {state.account.id} has the piece with {each.piece.size} bytes of data instead of "
                f"{piece.size}",
            )
    return CopyState.ABSENT, f"data set {state.account.id} does not have it"


def _proving(state: DataSetState, ids: tuple[int, ...], head: int, period: int) -> tuple[CopyState, str]:
    """Return the state of a piece that is in a running data set of ours."""
    if not state.activation:
        return CopyState.WAITING, "proving has not begun"
    if not state.deadline:
        return CopyState.WAITING, "proving begins again, because the data set was empty"
    if head > state.deadline + period:
        return CopyState.STOPPED, f"no proof since epoch {state.deadline}, for {head - state.deadline} epochs"
    if head > state.deadline and not state.proven_now:
        return CopyState.LATE, f"the proof due at epoch {state.deadline} is missing"
    current = (head - state.activation - 1) // period if head > state.activation else 0
    finished = [number for number in sorted(state.periods) if current - RECENT_PERIODS <= number < current]
    # The last finished period may have been proved and be the one that `deadline` still is about.
    missed = [number for number in finished if not state.periods[number]]
    proven = state.proven_now or any(state.periods.values())
    if missed:
        again = " and it proves again" if state.proven_now or state.periods.get(current, False) else ""
        return CopyState.LATE, f"{len(missed)} of the last {len(finished)} proofs are missing{again}"
    if not proven:
        return CopyState.WAITING, f"the first proof is due at epoch {state.deadline}"
    if not _is_challenged(state, ids):
        return CopyState.WAITING, "it was added after the challenge of this period was set"
    return CopyState.PROVEN, ""


def _is_challenged(state: DataSetState, ids: tuple[int, ...]) -> bool:
    """Whether the proof of this period can be about one of the pieces `ids`.

    A challenge is about the first `challenged` leaves of the set; pieces are appended in the order of their
    ids.
    """
    if state.leaves <= state.challenged:
        return True
    end = 0
    for each in sorted(state.pieces, key=lambda each: each.id):
        if each.piece is None:
            return False  # where the others begin is unknown
        end += piece_leaves(each.piece)
        if each.id in ids:
            return end <= state.challenged
    return False


_AS_DEAL = {
    CopyState.PROVEN: DealState.ACTIVE,
    CopyState.WAITING: DealState.OFFERED,
    CopyState.LATE: DealState.LATE,
    CopyState.STOPPED: DealState.LOST,
    CopyState.REMOVAL_SCHEDULED: DealState.EXPIRING,
    CopyState.NOT_OURS: DealState.UNPROVED,
    CopyState.WRONG_PIECE: DealState.UNPROVED,
    CopyState.ABSENT: DealState.LOST,
    CopyState.UNKNOWN: DealState.CLAIMED,
}


def as_deal(copy: PieceCopy, *, head: int, now: datetime, chain: Chain) -> CheckedDeal:
    """Return `copy` in the vocabulary of all deals, for the policy and for display.

    `head` is the epoch at which it was judged, `now` the reference time of the run. A copy that is `unknown`
    counts as claimed: nothing is published again because a node is down.
    """
    state = _AS_DEAL.get(copy.state)
    if state is None:  # terminated: it is stored until the end
        state = DealState.EXPIRING if copy.until is not None and head <= copy.until else DealState.EXPIRED
    detail = (
        copy.detail
        if state.value == copy.state.value or copy.state is CopyState.PROVEN
        else (f"{copy.state.value}: {copy.detail}" if copy.detail else copy.state.value)
    )
    return CheckedDeal(
        copy.piece,
        state,
        CheckedBy.SERVICE if copy.state is CopyState.UNKNOWN else CheckedBy.CHAIN,
        now,
        aggregate=copy.piece,
        provider=None if copy.provider_id is None else f"pdp:{copy.provider_id}",
        deal_id=copy.data_set,
        until=copy.until,
        detail=detail,
        ends=None if copy.until is None else chain.date(copy.until),
    )
