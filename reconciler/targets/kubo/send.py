"""Sending blocks in several streams at once: as the bytes of files, or in partial CARs; inner nodes last.

One stream does not saturate a node, two do; a path that limits each connection needs more (see
targets/upload_streams.py). Tree blocks come last, so that no root leads to blocks that are still being sent.

Kubo hashes every block that it imports and refuses one that does not match its CID, so leaves of a directory
are not hashed again when they are sent. What it adds as a file it chunks and hashes itself: the equal root
proves that it received these bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from reconciler.content import car, workers
from reconciler.content.dag import Dag, DiskFile, HasDiskFiles, ReadsUnverified
from reconciler.download.pace import START_FAR
from reconciler.errors import PeerError
from reconciler.net.errors import AccessDeniedError, NotFoundError, UnexpectedResponseError
from reconciler.net.response import UploadBody
from reconciler.net.retry import NO_RETRY
from reconciler.progress import Progress, Task
from reconciler.targets.kubo.rpc import DagStat, KuboRpc
from reconciler.targets.kubo.units import AddUnit, choose_units, find_units
from reconciler.targets.upload_streams import RunCutter, SendJob, UploadStreams, is_far

_SMALL = 16 << 20  # bytes that are not worth a second stream to a node nearby
_FEWEST, _MOST = 2, 4  # streams to a node nearby, which probably shares our cores


@dataclass(frozen=True, slots=True)
class TransferStats:
    """The number of blocks that were sent, and their bytes.

    `confirmed` says that the node counted, or hashed to our CID, all of them.
    """

    blocks: int = 0
    size: int = 0
    confirmed: bool = True

    def __add__(self, other: TransferStats) -> TransferStats:
        return TransferStats(
            self.blocks + other.blocks, self.size + other.size, self.confirmed and other.confirmed
        )


def stream_count(rpc: KuboRpc) -> int:
    """Return how many streams to open to the node at first."""
    return START_FAR if is_far(rpc.http) else max(_FEWEST, min(workers.cores(), _MOST))


def send(
    rpc: KuboRpc,
    dag: Dag,
    positions: Sequence[int],
    progress: Progress,
    title: str,
    *,
    nocopy: bool = False,
) -> TransferStats:
    """Send the blocks of `dag` at `positions`, which the node lacks.

    With `nocopy`, the node, which is on this machine, keeps references to files on the disk in place of their
    leaves. A success does not prove that the node has them: check afterwards.

    Raises PeerError, and what reading `dag` raises.
    """
    layout, wanted = dag.layout, positions
    total = car.partial_size(layout, positions) if positions else 0
    far = is_far(rpc.http)  # what is measured now is known to the other client as well
    with closing(rpc.http.apart()) as http, progress.task(f"{title}: sending", total) as task:
        sending = _Sending(KuboRpc(http), dag, task)
        if nocopy and isinstance(dag, HasDiskFiles):
            positions = sending.refer(dag.disk_files(), positions)
            total = car.partial_size(layout, positions)
        tree = [position for position in positions if not layout.is_leaf(position)]
        leaves = [position for position in positions if layout.is_leaf(position)]
        if total <= _SMALL and not far:
            sending.send_alone([*leaves, *tree])
        else:
            sending.send_leaves(positions, leaves)
            sending.send_alone([position for position in tree if position not in sending.made])
    sizes = sum(layout.block_size(position) for position in wanted)
    return TransferStats(len(wanted), sizes, sending.confirmed)


def add_leaves(
    rpc: KuboRpc, dag: Dag, positions: Sequence[int], progress: Progress, title: str
) -> TransferStats:
    """Have the node make each of these leaves from its bytes, as a file of its own.

    Raises PeerError, and what reading `dag` raises.
    """
    total = sum(map(dag.layout.block_size, positions))
    with progress.task(f"{title}: sending", total) as task:

        def add(position: int) -> None:
            data = dag.read(position)
            rpc.add_file(UploadBody(len(data), lambda: iter((data,))))
            task.advance(len(data))

        workers.share(add, positions, threads=stream_count(rpc))
    return TransferStats(len(positions), total, confirmed=False)


class _Sending:
    """One call of `send`."""

    def __init__(self, rpc: KuboRpc, dag: Dag, task: Task) -> None:
        self._rpc = rpc
        self._dag = dag
        self._task = task
        self._read = dag.read_unverified if isinstance(dag, ReadsUnverified) else dag.read
        self._can_add = True
        self._failed: dict[PeerError, Sequence[int]] = {}  # what failed requests had
        self.confirmed = True
        self.made: set[int] = set()  #: positions of inner nodes that the node made

    def send_leaves(self, positions: Sequence[int], leaves: Sequence[int]) -> None:
        """Send `leaves`, those among `positions`, in as many streams as pay off."""
        streams = UploadStreams(self._rpc.http, self._task)
        units = deque(self._find_units(positions, leaves))
        added = {position for unit in units for position in unit.leaves}
        runs = RunCutter(self._dag.layout, [leaf for leaf in leaves if leaf not in added])

        def take(size: int) -> SendJob | None:
            if units:
                return partial(self._add, units.popleft(), streams)
            run = runs.cut(size)
            return partial(self._send_car, run, streams) if run else None

        self._ended(lambda: streams.run(take, lambda: runs.left + sum(unit.size for unit in units)))

    def send_alone(self, positions: Sequence[int]) -> None:
        """Import the blocks at `positions` in one CAR, in one stream."""
        if positions:
            streams = UploadStreams(self._rpc.http, self._task, most=1)
            self._ended(lambda: streams.run_one(partial(self._send_car, positions, streams)))

    def refer(self, files: Iterator[DiskFile], positions: Sequence[int]) -> Sequence[int]:
        """Have the node refer to files of several leaves; return the positions that are left to send."""
        missing = set(positions)
        chosen = [file for file in files if len(file.leaves) > 1 and not missing.isdisjoint(file.leaves)]
        chosen.sort(key=lambda file: file.size, reverse=True)
        streams = UploadStreams(self._rpc.http, self._task)
        waiting = deque(chosen)

        def take(_: int) -> SendJob | None:
            return partial(self._refer, waiting.popleft(), streams) if waiting else None

        self._ended(lambda: streams.run(take, lambda: sum(file.size for file in waiting)))
        missing.difference_update(position for file in chosen for position in file.leaves)
        return sorted(missing)

    def _ended(self, run: Callable[[], None]) -> None:
        """Do `run`; raise SourceChangedError where that is the reason of its failure."""
        try:
            run()
        except PeerError as error:
            self._check_source(self._failed.get(error, ()))
            raise

    def _find_units(self, positions: Sequence[int], leaves: Sequence[int]) -> list[AddUnit]:
        """Return what the node should add as files: nothing where a path, and not the node, is the limit."""
        if is_far(self._rpc.http):
            return []
        units = list(find_units(self._dag, positions))
        total = sum(map(self._dag.layout.block_size, leaves))
        return choose_units(units, total - sum(unit.size for unit in units), stream_count(self._rpc))

    def _refer(self, file: DiskFile, streams: UploadStreams) -> None:
        pieces = streams.counted(lambda: map(self._read, file.leaves))
        try:
            found = self._rpc.add_file(UploadBody(file.size, pieces), file.path, NO_RETRY)
        except PeerError as error:
            self._failed[error] = file.leaves
            raise
        if found != file.cid:
            self._check_source(file.leaves)
            raise UnexpectedResponseError(
                self._rpc.name,
                f"makes other blocks of {str(file.path)!r} than the CID profile defines",
                hint="update Kubo, or remove nocopy from the target",
            )
        self._mark_verified(file.leaves)

    def _add(self, unit: AddUnit, streams: UploadStreams) -> None:
        """Have the node make a unit from the bytes of its leaves; send a CAR where it makes another."""
        if self._can_add:
            pieces = streams.counted(lambda: map(self._read, unit.leaves))
            try:
                found = self._rpc.add_file(UploadBody(unit.size, pieces), retry=NO_RETRY)
            except (AccessDeniedError, NotFoundError):
                found = None
            except PeerError as error:
                self._failed[error] = unit.leaves
                raise
            if found == unit.cid:
                self._mark_verified(unit.leaves)
                self.made.add(unit.position)
                return
            self._can_add = False  # not permitted, or a node that makes other blocks
            self._check_source(unit.leaves)
        self._send_car(unit.leaves, streams)

    def _send_car(self, positions: Sequence[int], streams: UploadStreams) -> None:
        """Import the blocks at `positions` in one CAR."""
        pieces = streams.counted(lambda: car.stream_partial(self._dag, positions, read=self._read))
        layout = self._dag.layout
        try:
            stat = self._rpc.dag_import(UploadBody(car.partial_size(layout, positions), pieces), NO_RETRY)
        except PeerError as error:
            self._failed[error] = positions
            raise
        if stat != DagStat(len(positions), sum(map(layout.block_size, positions))):
            self.confirmed = False
        self._mark_verified(positions)

    def _check_source(self, positions: Sequence[int]) -> None:
        """Raise SourceChangedError when a file has changed, which is then the reason of a failure."""
        if isinstance(self._dag, ReadsUnverified):
            for position in positions:
                self._dag.read(position)

    def _mark_verified(self, positions: Sequence[int]) -> None:
        if isinstance(self._dag, ReadsUnverified):
            self._dag.mark_verified(positions)
