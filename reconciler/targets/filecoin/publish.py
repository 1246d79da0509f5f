"""Bringing the missing copies of a version to providers: in batches, the first copy from us.

For each batch of pieces the first provider gets the bytes and adds them to our data set there; the others
pull them from it, and get them from us where they cannot. Limits and the account are checked before anything
is signed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid, capacity, height_for
from reconciler.deals.onchain.guard import SpendingLimits, naming_target, refusals, shortfalls
from reconciler.deals.onchain.interface import UPLOAD_SCOPES, StorageProvider
from reconciler.deals.onchain.money import PIECES_PER_CALL, PlannedCopy, Prediction, runway
from reconciler.deals.onchain.reader import ChainView
from reconciler.deals.onchain.signing import UploadSigner
from reconciler.errors import PeerError, SafetyError
from reconciler.net.errors import AccessDeniedError
from reconciler.progress import Progress
from reconciler.targets.filecoin.add import Batch, DataSetWriter, PieceGoneError, find_data_set
from reconciler.targets.filecoin.choose import CopyTask
from reconciler.targets.filecoin.provider import ProviderClient
from reconciler.targets.filecoin.send import ShardSender, pull_pieces
from reconciler.targets.filecoin.waits import Waits

Clients = Callable[[StorageProvider], ProviderClient]


@dataclass(frozen=True, slots=True)
class SpendingCheck:
    """The limits of a run, in which `spent` was spent once before."""

    limits: SpendingLimits
    spent: int = 0

    def allow(
        self, name: str, view: ChainView, prediction: Prediction, signer: UploadSigner, creates: int
    ) -> None:
        """Raise SafetyError when a limit refuses it, PeerError when the account does not suffice."""
        account, approval = view.account(signer.payer), view.approval(signer.payer)
        now = runway(account, view.block.number, view.chain)
        altogether = replace(prediction, once=prediction.once + self.spent)
        for reason in (
            *refusals(altogether, SpendingLimits(max_upload=self.limits.max_upload), account, now),
            *refusals(prediction, replace(self.limits, max_upload=None), account, now),
        ):
            raise SafetyError(f"{name}: {reason.text}", hint=naming_target(reason, name).hint)
        for reason in shortfalls(prediction, creates, view.prices, now, approval):
            raise PeerError(f"{name}: {reason.text}", hint=naming_target(reason, name).hint)


def check_session(name: str, view: ChainView, signer: UploadSigner) -> None:
    """Raise AccessDeniedError when the key may not sign uploads for the payer at the time of the block."""
    if signer.key.address == signer.payer:
        return
    granted = view.expiries(signer.payer, signer.key.address, UPLOAD_SCOPES)
    now = datetime.fromtimestamp(view.block.timestamp, UTC)
    for scope in UPLOAD_SCOPES:
        end = granted.get(scope)
        if end is None or end < now:
            state = "was never granted" if end is None else f"ended on {end:%Y-%m-%d %H:%M} UTC"
            raise AccessDeniedError(
                name,
                f"the session key {signer.key.address} may not sign {scope.value} for {signer.payer}: the "
                f"permission {state}",
                hint=f"run reconcile fund {name} to grant it again",
            )


def planned_copies(
    view: ChainView, signer: UploadSigner, index: str, tasks: Sequence[CopyTask], sizes: Sequence[int]
) -> tuple[PlannedCopy, ...]:
    """Return what `tasks` will do, for the prediction of their cost; `sizes` in bytes by shard."""
    planned = []
    for number, task in enumerate(tasks):
        ours = find_data_set(view, signer, task.provider, index)
        pieces = tuple(_piece_of(sizes[shard]) for shard in task.shards)
        if ours.state is None:
            planned.append(PlannedCopy(pieces, pulled=number > 0))
            continue
        account = ours.state.account
        planned.append(
            PlannedCopy(
                pieces,
                exists=True,
                leaves=ours.state.leaves,
                reserve=account.reserve or 0,
                pending=account.pending_fees or 0,
                pulled=number > 0,
            )
        )
    return tuple(planned)


def _piece_of(size: int) -> PieceCid:
    """Return a piece of `size` bytes: what it costs depends on nothing else."""
    height = height_for(size)
    return PieceCid(bytes(32), height, capacity(height) - size)


class Publication:
    """Carries out the tasks of one version. `sources` are the providers that serve a piece already."""

    def __init__(
        self,
        root: Cid,
        sender: ShardSender,
        writer: DataSetWriter,
        clients: Clients,
        waits: Waits,
        progress: Progress,
        sources: Mapping[PieceCid, Sequence[StorageProvider]],
    ) -> None:
        self._root = root
        self._sender = sender
        self._writer = writer
        self._clients = clients
        self._waits = waits
        self._progress = progress
        self._sources: dict[PieceCid, list[StorageProvider]] = {
            piece: list(providers) for piece, providers in sources.items()
        }

    def run(self, tasks: Sequence[CopyTask], shards: int) -> dict[int, PeerError]:
        """Bring the shards of each task to its provider, batch by batch; return the errors of providers.

        The failure of one provider does not stop the others. Raises what `Dag.read` raises.
        """
        broken: dict[int, PeerError] = {}
        for batch in range(-(-shards // PIECES_PER_CALL)):
            within = range(batch * PIECES_PER_CALL, (batch + 1) * PIECES_PER_CALL)
            for task in tasks:
                wanted = [shard for shard in task.shards if shard in within]
                if not wanted or task.provider.id in broken:
                    continue
                try:
                    self._bring(self._clients(task.provider), Batch(self._root, batch), wanted)
                except PeerError as error:
                    broken[task.provider.id] = error
        return broken

    def _bring(self, client: ProviderClient, batch: Batch, shards: Sequence[int]) -> None:
        """Bring one batch to one provider, and add it to our data set there."""
        self._pull(client, shards)
        waiting: list[int] = []
        begun = self._waits.clock()
        for shard in shards:
            self._sender.deliver(client, shard)
            waiting.append(shard)
            if self._waits.clock() - begun > self._waits.batch and shard != shards[-1]:
                self._add(client, batch, waiting)
                waiting, begun = [], self._waits.clock()
        self._add(client, batch, waiting)

    def _add(self, client: ProviderClient, batch: Batch, shards: Sequence[int]) -> None:
        pieces = [self._sender.pieces[shard] for shard in shards]
        try:
            self._writer.add(client, batch, pieces)
        except PieceGoneError as error:
            self._progress.note(f"{error.message}; sending it again")
            for shard in shards:
                self._sender.deliver(client, shard)
            self._writer.add(client, batch, pieces)
        for piece in pieces:
            self._sources.setdefault(piece, []).append(client.provider)

    def _pull(self, client: ProviderClient, shards: Sequence[int]) -> None:
        """Let the provider pull those pieces that it does not have and another one serves."""
        sources: dict[PieceCid, list[str]] = {}
        for shard in shards:
            piece = self._sender.pieces.get(shard)
            others = [] if piece is None else self._sources.get(piece, [])
            urls = [each.url for each in others if each.id != client.provider.id]
            if piece is not None and urls and not client.has(piece):
                sources[piece] = urls[:1]
        if sources:
            pull_pieces(self._writer, client, sources, self._waits, self._progress)
