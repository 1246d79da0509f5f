"""Adding pieces to data sets: each signed call is named so that it lands once.

Our data set with a provider and every addition have deterministic numbers, and the contracts accept a number
once. The number of an addition belongs to a fixed batch of a bundle's pieces and not to those of it that are
missing, so that two runs that disagree about what is missing cannot both have theirs accepted. Before a call
is signed the chain is asked whether it was carried out; afterwards the chain is asked, and not the provider.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.onchain import names
from reconciler.deals.onchain.guard import naming_target
from reconciler.deals.onchain.interface import DataSetState, StorageProvider
from reconciler.deals.onchain.reader import ChainReader, ChainView
from reconciler.deals.onchain.reverts import explain_revert, find_revert
from reconciler.deals.onchain.signing import MAX_VALUE, UploadSigner, create_and_add
from reconciler.errors import PeerError, Reason
from reconciler.net.errors import RequestError, RetryLaterError, TransientError
from reconciler.targets.filecoin.provider import PiecePull, ProviderClient, is_gone
from reconciler.targets.filecoin.waits import Waits

_GENERATIONS = 100  # data sets of ours with one provider that ended
_ATTEMPTS = 16  # numbers of an addition that are asked about at once
_SENDS = 2  # a call whose answer was unclear, and that did not land, is sent again with the same number

#: of every data set of ours; the empty value makes providers index the blocks of its CARs
_SOURCE = {"source": "reconcile", "withIPFSIndexing": ""}


class PieceGoneError(PeerError):
    """The provider dropped a piece before it was added; it has to be sent again."""


class UnclearAdditionError(PeerError):
    """The provider gave no clear answer, and nothing is on the chain: it may have sent a transaction."""


class NotLandedError(PeerError):
    """An addition is not on the chain yet; it may land later, and will not be paid twice."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A fixed part of the pieces of the bundle `root`: when all of it is missing, one call adds it."""

    root: Cid
    number: int


@dataclass(frozen=True, slots=True)
class OurDataSet:
    """Our data set with one provider: its number `name`, and its state; None before it is created."""

    name: int
    state: DataSetState | None

    @property
    def id(self) -> int:
        """The id on the chain; 0 before it is created."""
        return 0 if self.state is None else self.state.account.id

    def staying(self) -> frozenset[PieceCid]:
        """Return the pieces in it that are not scheduled for removal."""
        if self.state is None:
            return frozenset()
        return frozenset(
            each.piece
            for each in self.state.pieces
            if each.piece is not None and each.id not in self.state.removals
        )


def find_data_set(view: ChainView, signer: UploadSigner, provider: StorageProvider, index: str) -> OurDataSet:
    """Return the data set of the index with id `index` with a provider: the live one, or the next to create.

    Raises RequestError, and PeerError when the state of one cannot be known.
    """
    for generation in range(_GENERATIONS):
        name = names.data_set_name(view.chain_id, signer.payer, provider.id, index, generation)
        landed = view.nonces(signer.payer, [name])[name]
        if landed is None:
            return OurDataSet(name, None)
        state = view.data_sets([landed.data_set])[landed.data_set]
        if isinstance(state, Reason):
            raise PeerError(
                f"data set {landed.data_set} cannot be understood: {state.text}", hint=state.hint or None
            )
        if _takes_pieces(state, view, signer):
            return OurDataSet(name, state)
    raise PeerError(f"{_GENERATIONS} data sets with provider {provider.id} have ended")


def is_of_index(state: DataSetState, index: str) -> bool:
    """Return whether a data set is one that this program created for the index with id `index`."""
    return _metadata(index).items() <= state.metadata.items()


def _metadata(index: str) -> dict[str, str]:
    return _SOURCE | {"reconcileIndex": index[:MAX_VALUE]}


def _takes_pieces(state: DataSetState, view: ChainView, signer: UploadSigner) -> bool:
    account = state.account
    return (
        bool(account.rail)
        and state.live
        and not account.end
        and account.payer == signer.payer
        and state.listener == view.contracts.service
    )


class DataSetWriter:
    """Adds pieces to the data sets of the index with id `index`, for the target `name`."""

    def __init__(
        self,
        name: str,
        reader: ChainReader,
        signer: UploadSigner,
        index: str,
        waits: Waits,
        note: Callable[[str], None],
    ) -> None:
        self._name = name
        self._reader = reader
        self._signer = signer
        self._index = index
        self._waits = waits
        self._note = note

    def add(self, client: ProviderClient, batch: Batch, wanted: Sequence[PieceCid]) -> None:
        """Bring the `wanted` pieces of a batch, which the provider has, into our data set there.

        Does nothing for those that are in it. Returns when they are on the chain. Raises PieceGoneError,
        NotLandedError, RequestError.
        """
        for attempt in range(_SENDS):
            view = self._reader.view()
            ours = find_data_set(view, self._signer, client.provider, self._index)
            held = ours.staying()
            missing = [piece for piece in wanted if piece not in held]
            if not missing:
                return
            nonce = self._next_number(view, ours, batch)
            extra_data = self._consent(client.provider, ours, nonce, missing)
            place, problem = self._send(client, ours, missing, extra_data, nonce)
            if self._has_landed(client, nonce, place):
                continue  # what is missing now was missing from a list of another run
            if problem is None:
                break
            if attempt == _SENDS - 1:
                raise UnclearAdditionError(
                    problem.message,
                    hint="run again, nothing is paid twice; or name other providers in targets.yaml",
                )
        view = self._reader.view()
        if set(wanted) <= find_data_set(view, self._signer, client.provider, self._index).staying():
            return
        raise NotLandedError(
            f"{client.name}: the addition of {len(wanted)} pieces is not on the chain yet",
            hint="run again later: it is not paid twice",
        )

    def request_pull(self, client: ProviderClient, sources: Mapping[PieceCid, Sequence[str]]) -> PiecePull:
        """Sign a request to pull pieces. Its number is random, because a pull that failed stays failed."""
        view = self._reader.view()
        ours = find_data_set(view, self._signer, client.provider, self._index)
        extra_data = self._consent(client.provider, ours, secrets.randbits(255) | 1, list(sources))
        return PiecePull(view.contracts.service, ours.id, sources, extra_data)

    def _next_number(self, view: ChainView, ours: OurDataSet, batch: Batch) -> int:
        for start in range(0, _ATTEMPTS * _GENERATIONS, _ATTEMPTS):
            numbers = [
                names.batch_name(ours.name, batch.root, batch.number, attempt)
                for attempt in range(start, start + _ATTEMPTS)
            ]
            used = view.nonces(self._signer.payer, numbers)
            if free := next((number for number in numbers if used[number] is None), None):
                return free
        raise PeerError("these pieces were added and removed too often")

    def _consent(
        self, provider: StorageProvider, ours: OurDataSet, nonce: int, pieces: Sequence[PieceCid]
    ) -> bytes:
        add = self._signer.add_pieces(ours.name, nonce, pieces)
        if ours.state is not None:
            return add
        create = self._signer.create_data_set(ours.name, provider.payee, _metadata(self._index))
        return create_and_add(create, add)

    def _send(
        self,
        client: ProviderClient,
        ours: OurDataSet,
        pieces: Sequence[PieceCid],
        extra_data: bytes,
        nonce: int,
    ) -> tuple[str | None, PeerError | None]:
        """Send a call; return where the provider reports on it, or why its answer was unclear."""
        service = self._signer.domain.contract
        try:
            if ours.state is None:
                return client.create_and_add(service, pieces, extra_data), None
            return client.add(ours.id, pieces, extra_data), None
        except RequestError as error:
            if is_gone(error):
                raise PieceGoneError(error.message, hint=error.hint) from None
            refusal = find_revert(error.message)
            unclear = isinstance(error, TransientError) and error.reached and not refusal
            if not unclear and not self._landed(nonce):
                if refusal and not isinstance(error, RetryLaterError):
                    reason = naming_target(explain_revert(refusal), self._name)
                    raise PeerError(f"{client.name}: {reason.text}", hint=reason.hint or None) from None
                raise
            self._note(f"{error.message}; asking the chain")
            return None, error

    def _has_landed(self, client: ProviderClient, nonce: int, place: str | None) -> bool:
        failed = False

        def done() -> bool:
            nonlocal failed
            settled = place is not None and self._is_settled(client, place)
            landed = self._landed(nonce)
            failed = settled and not landed
            return landed or settled

        self._waits.until(done, self._waits.unclear if place is None else self._waits.landed)
        if failed:
            raise PeerError(
                f"{client.name}: its transaction failed, and no piece was added", hint="run again"
            )
        return self._landed(nonce)

    def _is_settled(self, client: ProviderClient, place: str) -> bool:
        try:
            return client.is_settled(place)
        except RequestError:
            return False  # the chain is asked in any case

    def _landed(self, nonce: int) -> bool:
        return self._reader.view().nonces(self._signer.payer, [nonce])[nonce] is not None
