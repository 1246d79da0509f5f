"""The state of roots from the copies of their pieces. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.onchain.interface import CopyState, PieceCopy, StorageProvider
from reconciler.targets.filecoin.holdings import HEALTHY, SERVING, Holdings
from reconciler.targets.filecoin.probe import PieceProbe
from reconciler.targets.filecoin.provider import describe_provider
from reconciler.targets.interface import Expected, Observation, State

#: what providers serve, by provider id and piece
Probes = Mapping[tuple[int, PieceCid], PieceProbe]


@dataclass(frozen=True, slots=True)
class _PieceStatus:
    """One piece: `good` and `bad` copies, and whether some data set could not be understood."""

    good: frozenset[int]
    bad: tuple[PieceCopy, ...]
    unknown: str
    bad_blocks: frozenset[int]  # positions that every good copy on the chain serves wrong


def required_copies(one: Expected, copies: int) -> int:
    """Return how many copies each piece of a root needs; `copies` are those of the target."""
    return max(copies, one.min_deals, one.min_providers) if one.min_deals else copies


def observe_root(
    one: Expected,
    pieces: Sequence[PieceCid] | None,
    holdings: Holdings,
    probes: Probes,
    checked: str,
    *,
    copies: int,
    now: datetime,
) -> Observation:
    """Return the state of one root; `pieces` are None when none of the payer's pieces belong to it."""
    if not pieces:
        return Observation(one.root, State.ABSENT, checked=checked)
    wanted = required_copies(one, copies)
    found = [_status(piece, holdings, probes) for piece in pieces]
    deals = holdings.deals(pieces, now)
    short = [status for status in found if len(status.good) < wanted]
    if not short:
        return Observation(one.root, State.HELD, checked=checked, pieces=tuple(pieces), deals=deals)
    unknown = next((status.unknown for status in short if status.unknown), "")
    if unknown:
        return Observation(
            one.root, State.UNKNOWN, checked=checked, detail=unknown, pieces=tuple(pieces), deals=deals
        )
    if not any(status.good or status.bad for status in found):
        return Observation(one.root, State.ABSENT, checked=checked)
    damaged = _damaged(one, found)
    return Observation(
        one.root,
        State.PARTIAL,
        damaged=damaged,
        checked=checked,
        detail=_detail(short, len(found), wanted, holdings, probes),
        nothing_left=not any(
            status.good or any(copy.state in SERVING for copy in status.bad) for status in found
        ),
        pieces=tuple(pieces),
        deals=deals,
    )


def unserved_notes(name: str, holdings: Holdings, probes: Probes) -> tuple[str, ...]:
    """Return notes about providers that do not serve what they prove, or could not be asked."""
    found: dict[int, list[PieceProbe]] = {}
    for (provider_id, _), result in probes.items():
        if result.detail or result.unknown:
            found.setdefault(provider_id, []).append(result)
    notes = []
    for provider_id, results in sorted(found.items()):
        provider = holdings.providers.get(provider_id)
        who = describe_provider(provider) if isinstance(provider, StorageProvider) else f"{provider_id}"
        bad = sum(bool(result.detail) for result in results)
        if bad:
            detail = next(result.detail for result in results if result.detail)
            notes.append(f"{name}: {who} proves {bad} pieces that it does not serve as they are: {detail}")
        elif reason := next((result.unknown for result in results if result.unknown), ""):
            notes.append(f"{name}: {who} proves its pieces but could not be read: {reason}")
    return tuple(notes)


def _status(piece: PieceCid, holdings: Holdings, probes: Probes) -> _PieceStatus:
    good: set[int] = set()
    bad: list[PieceCopy] = []
    unknown = ""
    wrong: frozenset[int] | None = None
    for copy in holdings.copies(piece):
        provider_id = copy.provider_id or 0
        if copy.state is CopyState.UNKNOWN:
            unknown = unknown or copy.detail
        elif copy.state in HEALTHY and copy.provider_id is not None:
            result = probes.get((provider_id, piece))
            if result is None or not result.detail:
                good.add(provider_id)
                wrong = frozenset()
            else:
                bad.append(copy)
                wrong = result.bad if wrong is None else wrong & result.bad
        elif copy.state is not CopyState.ABSENT:
            bad.append(copy)
    return _PieceStatus(frozenset(good), tuple(bad), unknown, wrong or frozenset())


def _damaged(one: Expected, found: Sequence[_PieceStatus]) -> tuple[Cid, ...]:
    if one.layout is None:
        return ()
    positions = sorted(position for status in found for position in status.bad_blocks)
    return tuple(one.layout.cid(position) for position in positions)


def _detail(
    short: Sequence[_PieceStatus], pieces: int, wanted: int, holdings: Holdings, probes: Probes
) -> str:
    fewest = min(len(status.good) for status in short)
    copies = "1 copy" if wanted == 1 else f"{wanted} copies"
    of_all = f"{len(short)} of {pieces} pieces: " if pieces > 1 else ""
    reasons = []
    for status in short:
        for copy in status.bad:
            result = probes.get((copy.provider_id or 0, copy.piece))
            said = holdings.describe(copy)
            if copy.state in HEALTHY and result is not None:
                said = f"{said.rpartition(': ')[0] or said}: {result.detail}"
            reasons.append(said)
    why = "; ".join(list(dict.fromkeys(reasons))[:3])
    return f"{of_all}{fewest} of {copies}" + (f" ({why})" if why else "")
