"""The target of one payer: its data sets with the providers of Filecoin Onchain Cloud."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from reconciler.content.car import Sharding, shard_spans
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.piece_cid import PieceCid
from reconciler.content.pieces import MAX_PIECE
from reconciler.deals.onchain.interface import StorageProvider
from reconciler.deals.onchain.reader import ChainReader
from reconciler.deals.onchain.signing import UploadSigner, service_domain
from reconciler.errors import DataError, PeerError
from reconciler.index.label import Label
from reconciler.net.retry import RetryBudget
from reconciler.progress import Progress
from reconciler.targets.filecoin.clients import ProviderClients
from reconciler.targets.filecoin.costs import price_deliveries
from reconciler.targets.filecoin.deliver import DeliveryOrder, Desk, deliver, healthy_copies
from reconciler.targets.filecoin.diagnose import diagnose_storage
from reconciler.targets.filecoin.fund import carry_out_funding, plan_funding
from reconciler.targets.filecoin.holdings import Holdings, read_holdings
from reconciler.targets.filecoin.known import KnownPieces
from reconciler.targets.filecoin.observe import observe_root, required_copies, unserved_notes
from reconciler.targets.filecoin.options import FilecoinOptions
from reconciler.targets.filecoin.probe import PieceProbe, probe_blocks, probe_piece, probe_start, probe_whole
from reconciler.targets.filecoin.provider import ProviderClient
from reconciler.targets.filecoin.stop import carry_out_stop, plan_stop
from reconciler.targets.filecoin.waits import DEFAULT_WAITS, Waits
from reconciler.targets.interface import (
    Capabilities,
    Check,
    Delivery,
    Diagnosis,
    Expected,
    Inventory,
    PieceCopies,
    Pin,
    RunTerms,
    UnsupportedError,
)
from reconciler.targets.pricing import FundingPlan, FundingReceipt, FundingWish, PlannedDelivery, Pricing

#: pieces as providers accept them, each naming the bundle's root
PROVIDER_SHARDING = Sharding(MAX_PIECE)

_LEAVES = 256  # leaves read in one `observe` of SAMPLE, over all copies
_LEAVES_EACH = 4  # of one copy of a root at most


class FilecoinTarget:
    """The storage of one payer. Without a key it is only read.

    The target keeps what the last `observe` found, so that a repair begins with it, and counts what was spent
    once since it was opened.
    """

    kind = "filecoin"

    def __init__(
        self,
        name: str,
        options: FilecoinOptions,
        *,
        sharding: Sharding = PROVIDER_SHARDING,
        waits: Waits | None = None,
        terms: RunTerms = RunTerms(),
        random: Random | None = None,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            takes_bytes=options.key is not None, keeps_labels=False, sharding=sharding, renews_deals=True
        )
        self._options = options
        self._sharding = sharding
        self._random = random or Random()  # noqa: S311 - a sample, not a secret
        self._reader = ChainReader(options.nodes)
        network = options.nodes.network
        cache = (
            None if terms.cache is None else terms.cache / f"filecoin-{network.chain_id}-{network.service}"
        )
        self._clients = ProviderClients(
            public_only=options.is_public, budget=terms.retries, on_retry=terms.progress.note
        )
        self._known = KnownPieces(self._clients, sharding, cache)
        self._desk: Desk | None = None
        if options.key is not None:
            domain = service_domain(network.chain_id, network.service)
            self._desk = Desk(
                name,
                options,
                self._reader,
                UploadSigner(options.payer, options.key, domain),
                self._clients,
                self._known,
                sharding,
                waits or replace(DEFAULT_WAITS, sleep=terms.pause),
                terms.retries or RetryBudget(),
                cache,
            )
        self._copies: dict[Cid, int] = {}
        self._seen: Holdings | None = None
        self._served_badly: frozenset[tuple[int, PieceCid]] = frozenset()
        self._unreadable: dict[int, PieceProbe] = {}  # providers that are not asked again in this observe
        self._spent = 0

    def observe(
        self,
        expected: Sequence[Expected],
        check: Check,
        mark: str,  # noqa: ARG002  pieces have no names
        progress: Progress,
    ) -> Inventory:
        """Judge every copy of every piece by the chain, and read pieces back as `check` requires."""
        holdings = read_holdings(self._reader, self._options.payer)
        self._known.remember_records(expected)
        for one in expected:
            self._use_carried(one, holdings)
        pieces = {one.root: self._known.find(one.root, holdings) for one in expected}
        self._copies |= {one.root: required_copies(one, self._options.copies) for one in expected}
        probes = self._probe(expected, pieces, holdings, check, progress)
        bad = frozenset(copy for copy, result in probes.items() if result.detail)
        self._served_badly = bad | {copy for copy in self._served_badly if copy not in probes}
        checked = f"the chain at epoch {holdings.view.block.number}"
        if check is not Check.QUICK:
            checked += (
                ", and " + ("every byte" if check is Check.FULL else "random leaves") + " of its copies"
            )
        now = datetime.now(UTC)
        observations = {
            one.root: observe_root(
                one, pieces[one.root], holdings, probes, checked, copies=self._options.copies, now=now
            )
            for one in expected
        }
        foreign = self._known.roots(holdings)
        holdings.view.confirm()
        self._seen = holdings
        notes = tuple(f"{self.name}: {note}" for note in holdings.view.contracts.notes)
        return Inventory(
            observations,
            foreign=tuple(Pin(root, "") for root in sorted(foreign - observations.keys())),
            notes=notes + unserved_notes(self.name, holdings, probes),
        )

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Bring the pieces of `dag` that are missing to providers, in as many copies as required."""
        return self._deliver(dag, label, progress)

    def repair(self, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress) -> Delivery:
        """Send what providers lost again, and bring missing copies to others, from good ones if possible."""
        return self._deliver(dag, label, progress, repair=True, damaged=tuple(damaged))

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:  # noqa: ARG002
        """Raise UnsupportedError."""
        raise UnsupportedError("providers accept pieces and fetch nothing by CID")

    def relabel(self, root: Cid, label: Label) -> None:  # noqa: ARG002
        """Raise UnsupportedError."""
        raise UnsupportedError("pieces have no names")

    def adopt(self, pin: Pin, label: Label) -> None:  # noqa: ARG002
        """Raise PeerError."""
        raise PeerError(
            f"{self.name}: pieces have no names, so none can be adopted",
            hint="nothing needs to be adopted: pieces of the payer whose root is in the index count as held",
        )

    def unpin(self, root: Cid, label: Label) -> None:  # noqa: ARG002
        """Raise UnsupportedError: pieces cannot be recognized as ours."""
        raise UnsupportedError("pieces have no names, so the reconciler cannot remove its own")

    def dag(self, root: Cid) -> Dag:
        """Return the DAG under `root` as the providers serve it."""
        return self._known.dag(root, read_holdings(self._reader, self._options.payer))

    def origins(self) -> tuple[str, ...]:
        """Return no addresses."""
        return ()

    def diagnose(self) -> Sequence[Diagnosis]:
        """Check chain, contracts, account, key and providers."""
        return tuple(diagnose_storage(self.name, self._options, self._reader, self._clients))

    # --- money

    def price(self, deliveries: Sequence[PlannedDelivery]) -> Pricing:
        """Return the account and the cost of `deliveries`, after what the last `observe` saw."""
        holdings = self._seen or read_holdings(self._reader, self._options.payer)
        return price_deliveries(self.name, self._options, holdings, deliveries, self._copies)

    def plan_funding(self, wish: FundingWish) -> FundingPlan:
        """Return what the account lacks, or what is left of the storage that shall end."""
        if wish.stop is not None:
            return plan_stop(self.name, self._options, self._reader, wish.stop)
        return plan_funding(self.name, self._options, self._reader, wish)

    def fund(self, wish: FundingWish, shown: FundingPlan, progress: Progress) -> Iterator[FundingReceipt]:
        """Carry out what is missing of `shown` with the payer's key from the environment."""
        key = self._options.payer_key()
        if wish.stop is not None:
            return carry_out_stop(self.name, self._options, self._reader, key, wish.stop, shown, progress)
        return carry_out_funding(self.name, self._options, self._reader, key, wish, shown, progress)

    def close(self) -> None:
        """Close all connections. May be called twice."""
        self._clients.close()
        self._options.nodes.close()

    def _deliver(
        self,
        dag: Dag,
        label: Label,
        progress: Progress,
        *,
        repair: bool = False,
        damaged: tuple[Cid, ...] = (),
    ) -> Delivery:
        if self._desk is None:
            raise UnsupportedError("no key_env: the target is only read")
        copies = self._copies.get(dag.layout.root, self._options.copies)
        order = DeliveryOrder(
            dag, Label(label).owner, copies, self._spent, repair, damaged, self._served_badly
        )
        done = deliver(self._desk, order, progress)
        self._spent += done.spent
        return done.delivery

    def _use_carried(self, one: Expected, holdings: Holdings) -> None:
        """Use pieces that another program brought, split in its own way, while only these are complete."""
        wanted = required_copies(one, self._options.copies)

        def complete(pieces: Iterable[PieceCid]) -> bool:
            return all(len(holdings.healthy(piece)) >= wanted for piece in pieces)

        own = self._known.get(one.root)
        if own is not None and self._known.sharding(one.root) == self._sharding and complete(own):
            return
        for split in one.splits:
            if complete(shard.piece for shard in split.shards):
                self._known.use(one.root, split)
                return

    def copies_of(self, pieces: Sequence[PieceCid]) -> Mapping[PieceCid, PieceCopies]:
        """Return how many healthy copies of each piece the payer has, and who else has its bytes."""
        holdings = self._seen or read_holdings(self._reader, self._options.payer)
        named = holdings.view.providers(self._options.providers).values() if self._options.providers else ()
        clients = self._clients.of(each for each in named if isinstance(each, StorageProvider))
        found = {}
        for piece in pieces:
            healthy = holdings.healthy(piece)
            others = [client for client in clients if client.provider.id not in healthy]
            unpaid = tuple(client.name for client in others if _has(client, piece))
            found[piece] = PieceCopies(len(healthy), unpaid)
        return found

    # --- reading back

    def _probe(
        self,
        expected: Sequence[Expected],
        pieces: Mapping[Cid, Sequence[PieceCid] | None],
        holdings: Holdings,
        check: Check,
        progress: Progress,
    ) -> dict[tuple[int, PieceCid], PieceProbe]:
        """Read pieces back from each provider with a healthy copy; nothing at QUICK."""
        found: dict[tuple[int, PieceCid], PieceProbe] = {}
        present = [one for one in expected if pieces[one.root]]
        self._unreadable.clear()
        if check is Check.QUICK or not present:
            return found
        each = max(1, min(_LEAVES_EACH, _LEAVES // len(present)))
        for one in present:
            mine = pieces[one.root] or ()
            layout, whole = one.layout, check is Check.FULL
            try:
                layout = layout or self._known.dag(one.root, holdings).layout
            except DataError:
                whole = True  # inner nodes are damaged everywhere: which piece is it?
            except PeerError:
                pass
            found |= self._probe_root(layout, mine, holdings, 0 if whole else each, progress)
        return found

    def _probe_root(
        self,
        layout: DagLayout | None,
        pieces: Sequence[PieceCid],
        holdings: Holdings,
        leaves: int,
        progress: Progress,
    ) -> dict[tuple[int, PieceCid], PieceProbe]:
        """Read one root back: `leaves` of each piece, all bytes when it is 0.

        `layout` is None when the inner nodes could not be read.
        """
        spans = () if layout is None else shard_spans(layout, self._known.sharding(layout.root))
        if layout is not None and [span.size for span in spans] != [piece.size for piece in pieces]:
            return {}
        found: dict[tuple[int, PieceCid], PieceProbe] = {}
        for provider_id, piece in sorted(healthy_copies(holdings, pieces), key=str):
            provider = holdings.providers.get(provider_id)
            if not isinstance(provider, StorageProvider):
                continue
            key = (provider_id, piece)
            if provider_id in self._unreadable:
                found[key] = self._unreadable[provider_id]
                continue
            try:
                client = self._clients(provider)
            except PeerError as error:
                found[key] = PieceProbe(unknown=error.message)
                continue
            if layout is None:
                found[key] = probe_start(client, piece) if leaves else probe_whole(client, piece, progress)
            elif not leaves:
                found[key] = probe_piece(client, piece, layout, spans[pieces.index(piece)], progress)
            else:
                span = spans[pieces.index(piece)]
                count = span.last - span.first
                positions = self._random.sample(range(span.first, span.last), min(leaves, count))
                found[key] = probe_blocks(client, piece, layout, span, sorted(positions))
            if found[key].unknown:
                self._unreadable[provider_id] = found[key]
        return found


def _has(client: ProviderClient, piece: PieceCid) -> bool:
    try:
        return client.has(piece)
    except PeerError:
        return False
