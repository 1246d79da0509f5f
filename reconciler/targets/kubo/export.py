"""Checking a DAG of many small blocks in one request: the node's own CAR, read and verified as it comes.

One request a block costs a millisecond, whatever the block holds. `dag/export` gives them all in our order,
and breaks off at the first that is missing or damaged; the rest has then to be asked for one by one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from reconciler.content.car_reader import CarReader
from reconciler.content.dag import DagLayout
from reconciler.errors import DataError, PeerError
from reconciler.progress import Task
from reconciler.targets.kubo.rpc import KuboRpc


def good_positions(rpc: KuboRpc, layout: DagLayout, task: Task) -> set[int]:
    """Positions of the blocks that the node's CAR gives good before it breaks off."""
    good: set[int] = set()
    try:
        with rpc.dag_export(layout.root, layout.car_size) as pieces:
            for section in CarReader(io.BufferedReader(_Pieces(pieces))):
                position = layout.find(section.cid)
                if position is not None and position not in good:
                    good.add(position)
                    task.advance(len(section.data))
    except (DataError, PeerError):
        return good  # what is wrong, or who, the questions block by block will tell
    return good


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a stream to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(self._rest), len(buffer))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
