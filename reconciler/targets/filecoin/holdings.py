"""What a payer's data sets hold, read from the chain as of one block, and the copies of each piece in them.

All live data sets of the payer count, also those of others: a piece that another program brought there, or
another index, is stored and paid for, so it is never bought again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedDeal
from reconciler.deals.onchain.health import as_deal, judge_copy
from reconciler.deals.onchain.interface import (
    ActivePiece,
    CopyState,
    DataSetState,
    EvmAddress,
    PieceCopy,
    StorageProvider,
)
from reconciler.deals.onchain.money import piece_leaves
from reconciler.deals.onchain.reader import ChainReader, ChainView
from reconciler.errors import PeerError, Reason
from reconciler.targets.filecoin.provider import describe_provider

#: copies that need no other one beside them; a late one may still prove again
HEALTHY = frozenset({CopyState.PROVEN, CopyState.WAITING, CopyState.LATE})
#: copies whose provider probably still has the bytes
SERVING = HEALTHY | {CopyState.REMOVAL_SCHEDULED, CopyState.TERMINATED, CopyState.STOPPED}


@dataclass(frozen=True, slots=True)
class Holdings:
    """The data sets of `payer` and their providers at the block of `view`.

    A Reason stands for a data set or provider about which nothing can be known.
    """

    view: ChainView
    payer: EvmAddress
    data_sets: Mapping[int, DataSetState | Reason]
    providers: Mapping[int, StorageProvider | Reason]
    _parts: Mapping[bytes, Sequence[DataSetState]] = field(default_factory=dict, repr=False)
    _judged: dict[PieceCid, tuple[PieceCopy, ...]] = field(default_factory=dict, repr=False)

    def copies(self, piece: PieceCid) -> tuple[PieceCopy, ...]:
        """Return every copy of `piece`, healthy or not; none when no data set has it.

        Where a data set is unknown there is a copy in state UNKNOWN.
        """
        if piece not in self._judged:
            self._judged[piece] = self._judge(piece)
        return self._judged[piece]

    def _judge(self, piece: PieceCid) -> tuple[PieceCopy, ...]:
        found = [
            judge_copy(
                piece,
                state,
                payer=self.payer,
                service=self.view.contracts.service,
                head=self.view.block.number,
                period=self.view.proving.period,
            )
            for state in self._parts.get(piece.root, ())
        ]
        unknown = (
            PieceCopy(piece, CopyState.UNKNOWN, data_set=number, detail=f"data set {number}: {state.text}")
            for number, state in self.data_sets.items()
            if isinstance(state, Reason)
        )
        return (*found, *unknown)

    def healthy(self, piece: PieceCid) -> frozenset[int]:
        """Return the ids of the providers with a healthy copy."""
        return frozenset(
            copy.provider_id
            for copy in self.copies(piece)
            if copy.state in HEALTHY and copy.provider_id is not None
        )

    def serving(self, piece: PieceCid) -> tuple[StorageProvider, ...]:
        """Return the providers that should serve `piece`, those with a healthy copy first."""
        copies = sorted(
            (copy for copy in self.copies(piece) if copy.state in SERVING),
            key=lambda copy: copy.state not in HEALTHY,
        )
        found = (self.providers.get(copy.provider_id or 0) for copy in copies)
        return tuple(dict.fromkeys(each for each in found if isinstance(each, StorageProvider) and each.url))

    def pieces(self) -> Iterable[PieceCid]:
        """Yield every piece in a data set of the payer, once."""
        seen: set[PieceCid] = set()
        for state in self.data_sets.values():
            for each in state.pieces if isinstance(state, DataSetState) else ():
                if each.piece is not None and each.piece not in seen:
                    seen.add(each.piece)
                    yield each.piece

    def deals(self, pieces: Iterable[PieceCid], now: datetime) -> tuple[CheckedDeal, ...]:
        """Return the copies of `pieces` in the vocabulary of all deals."""
        head, chain = self.view.block.number, self.view.chain
        return tuple(
            as_deal(copy, head=head, now=now, chain=chain)
            for piece in pieces
            for copy in self.copies(piece)
            if copy.state is not CopyState.ABSENT
        )

    def require_known(self, name: str) -> None:
        """Raise PeerError when a data set is unknown: what may be in it must not be bought again."""
        for number, state in self.data_sets.items():
            if isinstance(state, Reason):
                raise PeerError(
                    f"{name}: data set {number} cannot be understood: {state.text}", hint=state.hint or None
                )

    def describe(self, copy: PieceCopy) -> str:
        """Return a problem of a copy for the user."""
        provider = self.providers.get(copy.provider_id or 0)
        who = describe_provider(provider) if isinstance(provider, StorageProvider) else ""
        said = f"{copy.state.value}: {copy.detail}" if copy.detail else copy.state.value
        return f"{who}: {said}" if who else said


def read_holdings(reader: ChainReader, payer: EvmAddress) -> Holdings:
    """Read all data sets of `payer` at the newest block. Raises RequestError."""
    view = reader.view()
    data_sets = view.data_sets(view.data_set_ids(payer))
    ids = {
        state.account.provider_id
        for state in data_sets.values()
        if isinstance(state, DataSetState) and state.account.provider_id
    }
    providers = view.providers(sorted(ids))
    parts: dict[bytes, list[DataSetState]] = {}
    for state in data_sets.values():
        if isinstance(state, DataSetState):
            for root, part in _by_piece(state).items():
                parts.setdefault(root, []).append(part)
    return Holdings(view, payer, data_sets, providers, parts)


def _by_piece(state: DataSetState) -> dict[bytes, DataSetState]:
    """Return what `state` says about each of its pieces, by root, so that judging one does not read them all.

    The sizes say whether the piece is among the first ones, which the proof of this period is about.
    """
    pieces: dict[bytes, list[ActivePiece]] = {}
    later: set[bytes] = set()
    end, known = 0, True
    for each in sorted(state.pieces, key=lambda each: each.id):
        if each.piece is None:
            known = False  # where the others begin is unknown
            continue
        end += piece_leaves(each.piece)
        if each.piece.root not in pieces and (not known or end > state.challenged):
            later.add(each.piece.root)
        pieces.setdefault(each.piece.root, []).append(each)
    if state.leaves <= state.challenged:
        later = set()
    return {
        root: replace(state, pieces=tuple(some), leaves=int(root in later), challenged=0)
        for root, some in pieces.items()
    }
