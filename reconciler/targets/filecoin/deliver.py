"""One publication or repair: what is missing of a version, and with which providers it will be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.content.car import SHORTEST_PIECE, CarShard, ShardedCar, Sharding, ShardSpan, shard_spans
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.onchain import names
from reconciler.deals.onchain.interface import CopyState, StorageProvider
from reconciler.deals.onchain.money import predict
from reconciler.deals.onchain.reader import ChainReader
from reconciler.deals.onchain.signing import UploadSigner
from reconciler.errors import DataError, PeerError
from reconciler.net.retry import RetryBudget
from reconciler.progress import Progress
from reconciler.targets.filecoin.add import DataSetWriter, NotLandedError, UnclearAdditionError, find_data_set
from reconciler.targets.filecoin.choose import Candidates, CopyTask, assign, rank
from reconciler.targets.filecoin.clients import ProviderClients
from reconciler.targets.filecoin.holdings import HEALTHY, Holdings, read_holdings
from reconciler.targets.filecoin.journal import UploadJournal
from reconciler.targets.filecoin.known import KnownPieces, recorded_sizes_fit
from reconciler.targets.filecoin.options import FilecoinOptions
from reconciler.targets.filecoin.probe import probe_blocks
from reconciler.targets.filecoin.publish import (
    Publication,
    SpendingCheck,
    check_session,
    planned_copies,
)
from reconciler.targets.filecoin.send import ShardSender
from reconciler.targets.filecoin.waits import Waits
from reconciler.targets.interface import Delivery, State

_MOST_FAILED = 4  # providers that are tried and fail in one delivery: each may have got every byte
_REPAIR_BLOCKS = 64  # damaged blocks that a repair looks at before it sends anything


@dataclass(frozen=True, slots=True)
class Desk:
    """What every delivery of one target shares."""

    name: str
    options: FilecoinOptions
    reader: ChainReader
    signer: UploadSigner
    clients: ProviderClients
    known: KnownPieces
    sharding: Sharding
    waits: Waits
    retries: RetryBudget
    cache: Path | None


@dataclass(frozen=True, slots=True)
class DeliveryOrder:
    """A version to bring: `copies` of each piece, in the data sets of `index`.

    `damaged` are blocks that were found wrong, `served_badly` the copies (provider and piece) that were found
    so; with `repair`, every copy is looked for at its provider.
    """

    dag: Dag
    index: str
    copies: int
    spent: int = 0
    repair: bool = False
    damaged: tuple[Cid, ...] = ()
    served_badly: frozenset[tuple[int, PieceCid]] = frozenset()


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery, and what it spent once."""

    delivery: Delivery
    spent: int = 0


def deliver(desk: Desk, order: DeliveryOrder, progress: Progress) -> Delivered:
    """Bring the missing copies of a version to providers.

    Raises PeerError, SafetyError, DataError for a bundle that is too small, and what `Dag.read` raises.
    """
    spans = shard_spans(order.dag.layout, desk.sharding)
    if spans[-1].size < SHORTEST_PIECE:
        raise DataError(
            f"{desk.name}: the CAR of {order.dag.layout.root} has {spans[-1].size} bytes; a provider "
            f"accepts no fewer than {SHORTEST_PIECE}",
            hint="keep it on another target",
        )
    return _Delivery(desk, order, spans, progress).run()


class _Delivery:
    """The state of one delivery."""

    def __init__(
        self, desk: Desk, order: DeliveryOrder, spans: Sequence[ShardSpan], progress: Progress
    ) -> None:
        self._desk = desk
        self._order = order
        self._spans = spans
        self._progress = progress
        self._root = order.dag.layout.root
        self._sizes = [span.size for span in spans]
        self._spoiled: set[tuple[int, PieceCid]] = set(order.served_badly)
        self._holdings = self._read()
        self._journal = UploadJournal(desk.cache, self._root, desk.sharding)
        self._sender = ShardSender(
            order.dag, spans, self._known_pieces(), self._journal, desk.waits, progress, desk.retries
        )

    def run(self) -> Delivered:
        self._send_again()
        spent = 0
        problems: dict[int, PeerError] = {}
        while tasks := self._assign(problems):
            spent += self._check_money(tasks)
            failed = self._publish(tasks)
            problems |= failed
            self._holdings = self._read()
            replaceable = [error for error in failed.values() if _is_replaceable(error)]
            if not replaceable or len(problems) >= _MOST_FAILED:
                break
            for error in replaceable:
                self._progress.note(f"{error.message}; trying another provider")
        return Delivered(self._report(tuple(problems.values())), spent)

    # --- what is there

    def _read(self) -> Holdings:
        holdings = read_holdings(self._desk.reader, self._desk.options.payer)
        holdings.require_known(self._desk.name)
        return holdings

    def _known_pieces(self) -> dict[int, PieceCid]:
        """Return the pieces by shard: those of the record, of an interrupted upload, or of providers."""
        known = dict(recorded_sizes_fit(self._desk.known.get(self._root), self._sizes))
        for number, shard in self._journal.shards.items():
            if number < len(self._sizes) and shard.size == self._sizes[number]:
                known.setdefault(number, shard.piece)
        if len(known) < len(self._sizes):
            found = recorded_sizes_fit(self._desk.known.find(self._root, self._holdings), self._sizes)
            known = dict(found) | known
        return known

    def _pieces(self) -> dict[int, PieceCid]:
        return self._sender.pieces

    def _healthy(self, number: int) -> frozenset[int]:
        piece = self._pieces().get(number)
        if piece is None:
            return frozenset()
        found = self._holdings.healthy(piece)
        return frozenset(provider for provider in found if (provider, piece) not in self._spoiled)

    def _bad(self, number: int) -> frozenset[int]:
        """Return the providers that had the shard and did not keep it; they get no other copy."""
        piece = self._pieces().get(number)
        if piece is None:
            return frozenset()
        stopped = (
            copy.provider_id
            for copy in self._holdings.copies(piece)
            if copy.state is CopyState.STOPPED and copy.provider_id is not None
        )
        return frozenset(stopped) | {provider for provider, bad in self._spoiled if bad == piece}

    def _send_again(self) -> None:
        """Look for every healthy copy at its provider, and send what it lost: that costs nothing."""
        if not self._order.repair:
            return
        unreachable: set[int] = set()
        for number, piece in list(self._pieces().items()):
            for client in self._desk.clients.of(self._holdings.serving(piece)):
                provider = client.provider.id
                if provider in unreachable or provider not in self._holdings.healthy(piece):
                    continue
                try:
                    if not client.has(piece):
                        self._sender.deliver(client, number)
                        self._spoiled.discard((provider, piece))
                    elif self._serves_damage(number, client.provider):
                        self._spoiled.add((provider, piece))
                except PeerError as error:
                    unreachable.add(provider)
                    self._progress.note(error.message)

    def _serves_damage(self, number: int, provider: StorageProvider) -> bool:
        layout, span = self._order.dag.layout, self._spans[number]
        positions = sorted(
            position
            for cid in self._order.damaged[:_REPAIR_BLOCKS]
            if (position := layout.find(cid)) is not None and span.first <= position < span.last
        )
        if not positions:
            return False
        result = probe_blocks(self._desk.clients(provider), self._pieces()[number], layout, span, positions)
        return bool(result.detail)

    # --- providers

    def _assign(self, problems: Mapping[int, PeerError]) -> tuple[CopyTask, ...]:
        """Return what is missing and with whom it will be; `problems` are those of providers that failed.

        Raises PeerError when nothing that is missing can be brought to any provider.
        """
        numbers = range(len(self._spans))
        healthy = [self._healthy(number) for number in numbers]
        bad = [self._bad(number) for number in numbers]
        if all(len(each) >= self._order.copies for each in healthy):
            return ()
        holding: dict[int, int] = {}
        for number in (number for each in healthy for number in each):
            holding[number] = holding.get(number, 0) + 1
        ranked = rank(self._candidates(), self._desk.options.payer, holding)
        usable: list[StorageProvider] = []
        tasks = assign(usable, self._sizes, healthy, bad, self._order.copies)
        reasons = [error.message for error in problems.values()]
        for provider in ranked:  # ask no more of them than needed
            if not tasks.missing:
                break
            if provider.id in problems:
                continue
            if not assign([provider], self._sizes, healthy, bad, self._order.copies).tasks:
                continue
            try:
                self._desk.clients(provider).ping()
            except PeerError as error:
                reasons.append(error.message)
                self._progress.note(f"{error.message}; trying another provider")
                continue
            usable.append(provider)
            tasks = assign(usable, self._sizes, healthy, bad, self._order.copies)
        if problems and not tasks.tasks:
            return ()
        if not tasks.tasks:
            raise PeerError(
                f"{self._desk.name}: no provider can take another copy of {self._root}",
                hint="; ".join(reasons) or "name more providers in targets.yaml, or require fewer copies",
            )
        return tasks.tasks

    def _candidates(self) -> Candidates:
        view, named = self._holdings.view, self._desk.options.providers
        ids = named or view.provider_ids()
        found = view.providers(ids)
        providers = {number: each for number, each in found.items() if isinstance(each, StorageProvider)}
        payer, index = self._desk.options.payer, self._order.index
        firsts = {number: names.data_set_name(view.chain_id, payer, number, index) for number in providers}
        landed = view.nonces(payer, firsts.values())
        ours = {
            number
            for number, provider in providers.items()
            if landed[firsts[number]] is not None
            and find_data_set(view, self._desk.signer, provider, index).state is not None
        }
        return Candidates(
            providers,
            endorsed=frozenset() if named else view.endorsed_ids(),
            approved=frozenset() if named else view.approved_ids(),
            named=named,
            with_data_set=frozenset(ours),
        )

    # --- the work

    def _check_money(self, tasks: Sequence[CopyTask]) -> int:
        """Check limits, account and key before anything is signed; return what will be spent once."""
        desk, view = self._desk, self._holdings.view
        check_session(desk.name, view, desk.signer)
        planned = planned_copies(view, desk.signer, self._order.index, tasks, self._sizes)
        prediction = predict(planned, view.prices)
        creates = sum(not copy.exists for copy in planned)
        check = SpendingCheck(desk.options.limits, self._order.spent)
        check.allow(desk.name, view, prediction, desk.signer, creates)
        return prediction.once

    def _publish(self, tasks: Sequence[CopyTask]) -> dict[int, PeerError]:
        desk = self._desk
        writer = DataSetWriter(
            desk.name, desk.reader, desk.signer, self._order.index, desk.waits, self._progress.note
        )
        sources = {
            piece: [
                each
                for each in self._holdings.serving(piece)
                if each.id in self._holdings.healthy(piece) and (each.id, piece) not in self._spoiled
            ]
            for piece in self._pieces().values()
        }
        publication = Publication(
            self._root, self._sender, writer, desk.clients, desk.waits, self._progress, sources
        )
        return publication.run(tasks, len(self._spans))

    def _report(self, problems: Sequence[PeerError]) -> Delivery:
        """Return what is there now. Raises the first problem when copies are missing because of it."""
        sent, pieces = self._sender, self._pieces()
        if len(pieces) == len(self._spans):
            self._desk.known.remember(self._root, (pieces[number] for number in range(len(self._spans))))
        counts = [len(self._healthy(number)) for number in range(len(self._spans))]
        if min(counts) >= self._order.copies:
            self._journal.remove()
            return Delivery(State.HELD, sent.sent, sent.blocks, pieces=self._sharded())
        for problem in problems:
            if not isinstance(problem, NotLandedError):
                raise problem
        if problems:
            return Delivery(State.PENDING, sent.sent, sent.blocks, problems[0].message, self._sharded())
        short = sum(count < self._order.copies for count in counts)
        detail = f"{short} of {len(counts)} pieces have fewer than {self._order.copies} copies"
        return Delivery(State.PARTIAL, sent.sent, sent.blocks, detail, self._sharded())

    def _sharded(self) -> ShardedCar | None:
        """Return the CARs of the version; None when some were not hashed now, nor in an earlier upload."""
        cars = {**self._journal.shards, **self._sender.cars}
        pieces = self._pieces()
        shards: list[CarShard] = []
        for number in range(len(self._spans)):
            found = cars.get(number)
            if found is None or found.piece != pieces.get(number):
                return None
            shards.append(found)
        return ShardedCar(self._desk.sharding, tuple(shards))


def _is_replaceable(error: PeerError) -> bool:
    """Whether another provider may take the place of one that failed: certainly nothing lands there later."""
    return not isinstance(error, NotLandedError | UnclearAdditionError)


def healthy_copies(holdings: Holdings, pieces: Iterable[PieceCid]) -> set[tuple[int, PieceCid]]:
    """Return the provider and piece of each healthy copy on the chain."""
    return {
        (copy.provider_id, piece)
        for piece in pieces
        for copy in holdings.copies(piece)
        if copy.state in HEALTHY and copy.provider_id is not None
    }
