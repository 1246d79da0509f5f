"""Sending blocks as partial CARs: the leaves in two streams at once, the inner nodes last.

One stream does not saturate a node, two do. Tree blocks come last, so that no root leads to blocks that are
still being sent. Segments limit the cost of a broken connection: segments that were imported are not sent
again.

Kubo hashes every block that it imports and refuses one that does not match its CID, so leaves of a directory
are not hashed again when they are sent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from reconciler.content import car
from reconciler.content.dag import Dag, DagLayout, ReadsUnverified
from reconciler.errors import PeerError
from reconciler.net.response import UploadBody
from reconciler.progress import Progress, Task
from reconciler.targets.kubo.rpc import KuboRpc

STREAMS = 2
SEGMENT = 256 << 20  #: bytes of one CAR at most
_SMALL = 16 << 20  # bytes that are not worth a second stream


@dataclass(frozen=True, slots=True)
class TransferStats:
    """The number of blocks that were sent, and their bytes."""

    blocks: int = 0
    size: int = 0

    def __add__(self, other: TransferStats) -> TransferStats:
        return TransferStats(self.blocks + other.blocks, self.size + other.size)


class _SendStoppedError(Exception):
    """Another stream failed."""


def send(rpc: KuboRpc, dag: Dag, positions: Sequence[int], progress: Progress, title: str) -> TransferStats:
    """Send the blocks of `dag` at `positions`.

    A success does not prove that the node has them: check afterwards.

    Raises PeerError, and what reading `dag` raises.
    """
    layout = dag.layout
    leaves = [position for position in positions if layout.is_leaf(position)]
    tree = [position for position in positions if not layout.is_leaf(position)]
    total = car.partial_size(layout, positions) if positions else 0
    stop = threading.Event()
    with progress.task(f"{title}: sending", total) as task:
        if total <= _SMALL:
            _send_one(rpc, dag, [*leaves, *tree], task, stop)
        else:
            _send_parallel(rpc, dag, segments(layout, leaves), task, stop)
            _send_one(rpc, dag, tree, task, stop)
    return TransferStats(len(positions), sum(layout.block_size(position) for position in positions))


def segments(layout: DagLayout, positions: Sequence[int]) -> list[list[int]]:
    """Split `positions` into runs of at most SEGMENT bytes, and into at least one for each stream."""
    total = sum(layout.block_size(position) for position in positions)
    most = min(SEGMENT, -(-total // STREAMS))
    runs: list[list[int]] = []
    size = most
    for position in positions:
        if size >= most:
            runs.append([])
            size = 0
        runs[-1].append(position)
        size += layout.block_size(position)
    return runs


def _send_parallel(
    rpc: KuboRpc, dag: Dag, runs: Sequence[Sequence[int]], task: Task, stop: threading.Event
) -> None:
    with ThreadPoolExecutor(STREAMS) as pool:
        futures = [pool.submit(_send_one, rpc, dag, run, task, stop) for run in runs]
        failures: list[Exception] = []
        try:
            for future in futures:
                try:
                    future.result()
                except _SendStoppedError:
                    pass
                except Exception as error:  # noqa: BLE001  raised below, when both streams have ended
                    failures.append(error)
                    stop.set()
        except BaseException:
            stop.set()
            raise
    if failures:
        raise failures[0]


def _send_one(rpc: KuboRpc, dag: Dag, positions: Sequence[int], task: Task, stop: threading.Event) -> None:
    if not positions:
        return
    if stop.is_set():
        raise _SendStoppedError
    read = dag.read_unverified if isinstance(dag, ReadsUnverified) else dag.read
    counted = 0  # bytes of an attempt that broke off are not counted twice

    def pieces() -> Iterator[bytes]:
        nonlocal counted
        sent = 0
        for piece in car.stream_partial(dag, positions, read=read):
            if stop.is_set():
                raise _SendStoppedError
            yield piece
            sent += len(piece)
            if sent > counted:
                task.advance(sent - counted)
                counted = sent

    try:
        rpc.dag_import(UploadBody(car.partial_size(dag.layout, positions), pieces))
    except PeerError:
        if isinstance(dag, ReadsUnverified):
            for position in positions:
                dag.read(
                    position
                )  # raises SourceChangedError when a file has changed, which is then the reason
        raise
    if isinstance(dag, ReadsUnverified):
        dag.mark_verified(positions)
