"""Sending blocks in several streams at once: as the bytes of files, or in partial CARs; inner nodes last.

One stream does not saturate a node, two do; a path that limits each connection needs more. Tree blocks come
last, so that no root leads to blocks that are still being sent. Segments limit the cost of a broken
connection: segments that were imported are not sent again.

Kubo hashes every block that it imports and refuses one that does not match its CID, so leaves of a directory
are not hashed again when they are sent. What it adds as a file it chunks and hashes itself: the equal root
proves that it received these bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from reconciler.content import car, workers
from reconciler.content.dag import Dag, DagLayout, DiskFile, HasDiskFiles, ReadsUnverified
from reconciler.errors import PeerError
from reconciler.net.errors import AccessDeniedError, NotFoundError, UnexpectedResponseError
from reconciler.net.response import UploadBody
from reconciler.progress import Progress, Task
from reconciler.targets.kubo.rpc import DagStat, KuboRpc
from reconciler.targets.kubo.units import AddUnit, choose_units, find_units

SEGMENT = 256 << 20  #: bytes of one CAR at most
_SMALL = 16 << 20  # bytes that are not worth a second stream
_FEWEST, _MOST = 2, 4  # streams to a node on this machine, which shares its cores
_REMOTE = 8  # streams to another one


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


class _SendStoppedError(Exception):
    """Another stream failed."""


def stream_count(rpc: KuboRpc) -> int:
    """Return how many streams to open to the node."""
    return max(_FEWEST, min(workers.cores(), _MOST)) if rpc.http.address.loopback else _REMOTE


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
    with progress.task(f"{title}: sending", total) as task:
        sending = _Sending(rpc, dag, task)
        if nocopy and isinstance(dag, HasDiskFiles):
            positions = sending.refer(dag.disk_files(), positions)
            total = car.partial_size(layout, positions)
        leaves = [position for position in positions if layout.is_leaf(position)]
        tree = [position for position in positions if not layout.is_leaf(position)]
        if total <= _SMALL:
            sending.send_car([*leaves, *tree])
        else:
            streams = stream_count(rpc)
            units = sending.find_units(positions, leaves, streams)
            added = {position for unit in units for position in unit.leaves}
            runs = segments(layout, [leaf for leaf in leaves if leaf not in added], streams)
            jobs = [partial(sending.add, unit) for unit in units]
            sending.run(streams, [*jobs, *(partial(sending.send_car, run) for run in runs)])
            sending.send_car([position for position in tree if position not in sending.made])
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


def segments(layout: DagLayout, positions: Sequence[int], streams: int) -> list[list[int]]:
    """Split `positions` into runs of at most SEGMENT bytes, and into at least one for each stream."""
    total = sum(layout.block_size(position) for position in positions)
    most = min(SEGMENT, -(-total // streams))
    runs: list[list[int]] = []
    size = most
    for position in positions:
        if size >= most:
            runs.append([])
            size = 0
        runs[-1].append(position)
        size += layout.block_size(position)
    return runs


class _Sending:
    """One call of `send`."""

    def __init__(self, rpc: KuboRpc, dag: Dag, task: Task) -> None:
        self._rpc = rpc
        self._dag = dag
        self._task = task
        self._stop = threading.Event()
        self._read = dag.read_unverified if isinstance(dag, ReadsUnverified) else dag.read
        self._can_add = True
        self.confirmed = True
        self.made: set[int] = set()  #: positions of inner nodes that the node made

    def find_units(self, positions: Sequence[int], leaves: Sequence[int], streams: int) -> list[AddUnit]:
        """Return what the node should add as files."""
        units = list(find_units(self._dag, positions))
        total = sum(map(self._dag.layout.block_size, leaves))
        return choose_units(units, total - sum(unit.size for unit in units), streams)

    def run(self, streams: int, jobs: Sequence[Callable[[], None]]) -> None:
        """Do all `jobs`, on `streams` threads. Raises the error of the first that fails."""
        with ThreadPoolExecutor(streams, thread_name_prefix="send") as pool:
            futures = [pool.submit(job) for job in jobs]
            failures: list[Exception] = []
            try:
                for future in futures:
                    try:
                        future.result()
                    except _SendStoppedError:
                        pass
                    except Exception as error:  # noqa: BLE001  raised below, when all streams have ended
                        failures.append(error)
                        self._stop.set()
            except BaseException:
                self._stop.set()
                raise
        if failures:
            raise failures[0]

    def refer(self, files: Iterator[DiskFile], positions: Sequence[int]) -> Sequence[int]:
        """Have the node refer to files of several leaves; return the positions that are left to send."""
        missing = set(positions)
        chosen = [file for file in files if len(file.leaves) > 1 and not missing.isdisjoint(file.leaves)]
        chosen.sort(key=lambda file: file.size, reverse=True)
        self.run(stream_count(self._rpc), [partial(self._refer, file) for file in chosen])
        missing.difference_update(position for file in chosen for position in file.leaves)
        return sorted(missing)

    def _refer(self, file: DiskFile) -> None:
        pieces = self._counted(lambda: map(self._read, file.leaves))
        try:
            found = self._rpc.add_file(UploadBody(file.size, pieces), file.path)
        except PeerError:
            self._check_source(file.leaves)
            raise
        if found != file.cid:
            self._check_source(file.leaves)
            raise UnexpectedResponseError(
                self._rpc.name,
                f"makes other blocks of {str(file.path)!r} than the CID profile defines",
                hint="update Kubo, or remove nocopy from the target",
            )
        self._mark_verified(file.leaves)

    def add(self, unit: AddUnit) -> None:
        """Have the node make a unit from the bytes of its leaves; send a CAR where it makes another."""
        if self._can_add:
            pieces = self._counted(lambda: map(self._read, unit.leaves))
            try:
                found = self._rpc.add_file(UploadBody(unit.size, pieces))
            except (AccessDeniedError, NotFoundError):
                found = None
            except PeerError:
                self._check_source(unit.leaves)
                raise
            if found == unit.cid:
                self._mark_verified(unit.leaves)
                self.made.add(unit.position)
                return
            self._can_add = False  # not permitted, or a node that makes other blocks
            self._check_source(unit.leaves)
        self.send_car(unit.leaves)

    def send_car(self, positions: Sequence[int]) -> None:
        """Import the blocks at `positions` in one CAR."""
        if not positions:
            return
        pieces = self._counted(lambda: car.stream_partial(self._dag, positions, read=self._read))
        layout = self._dag.layout
        try:
            stat = self._rpc.dag_import(UploadBody(car.partial_size(layout, positions), pieces))
        except PeerError:
            self._check_source(positions)
            raise
        if stat != DagStat(len(positions), sum(map(layout.block_size, positions))):
            self.confirmed = False
        self._mark_verified(positions)

    def _counted(self, make: Callable[[], Iterator[bytes]]) -> Callable[[], Iterator[bytes]]:
        """Return `make`, with its pieces counted, once each however many attempts break off."""
        counted = 0

        def pieces() -> Iterator[bytes]:
            nonlocal counted
            sent = 0
            for piece in make():
                if self._stop.is_set():
                    raise _SendStoppedError
                yield piece
                sent += len(piece)
                if sent > counted:
                    self._task.advance(sent - counted)
                    counted = sent

        if self._stop.is_set():
            raise _SendStoppedError
        return pieces

    def _check_source(self, positions: Sequence[int]) -> None:
        """Raise SourceChangedError when a file has changed, which is then the reason of a failure."""
        if isinstance(self._dag, ReadsUnverified):
            for position in positions:
                self._dag.read(position)

    def _mark_verified(self, positions: Sequence[int]) -> None:
        if isinstance(self._dag, ReadsUnverified):
            self._dag.mark_verified(positions)
