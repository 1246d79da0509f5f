"""A root as a node serves it: verified blocks by CID, and the Dag that heals others.

Checking a DAG of many small blocks in one request: the node's own CAR, read and verified as it comes.

One request a block costs a millisecond, whatever the block holds. `dag/export` gives them all in our order,
and breaks off at the first that is missing or damaged; the rest has then to be asked for one by one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from reconciler.content.car_reader import CarReader
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.progress import Task
from reconciler.targets.healing import prove_layout
from reconciler.targets.kubo.answers import WrongBytesError
from reconciler.targets.kubo.rpc import KuboRpc


class KuboBlocks:
    """What a node has, block by block, each verified. Reads are safe from several threads."""

    def __init__(self, rpc: KuboRpc) -> None:
        self._rpc = rpc

    def read_block(self, cid: Cid) -> bytes:
        """The verified block. Raises BlockUnavailableError when it is missing or damaged there, PeerError."""
        try:
            data = self._rpc.block_get(cid)
        except WrongBytesError:
            raise UnusableBlockError(self._rpc.name, cid, damaged=True) from None
        if data is None:
            raise UnusableBlockError(self._rpc.name, cid, damaged=False)
        return data

    def close(self) -> None:
        """Nothing stays open; the connections are the target's."""


class UnusableBlockError(BlockUnavailableError):
    """The node does not have the block `cid`, or (`damaged`) has other bytes under it."""

    def __init__(self, peer: str, cid: Cid, *, damaged: bool) -> None:
        super().__init__(f"block {cid} is {'damaged' if damaged else 'missing'} on {peer}")
        self.cid = cid
        self.damaged = damaged


class KuboDag:
    """The Dag under `root` on a node; the layout is proven from the tree blocks when it is made.

    Raises BlockUnavailableError when a tree block is missing or damaged, DataError when they make no DAG.
    """

    def __init__(self, rpc: KuboRpc, root: Cid) -> None:
        self._blocks = KuboBlocks(rpc)
        self._layout = prove_layout(root, self._blocks.read_block)

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._layout

    def read(self, position: int) -> bytes:
        """The verified bytes of the block at `position`. Raises as KuboBlocks.read_block does."""
        return self._blocks.read_block(self._layout.cid(position))

    def close(self) -> None:
        """Nothing stays open; the connections are the target's."""


def layout_there(rpc: KuboRpc, root: Cid) -> DagLayout:
    """The layout of `root` from the node's own tree blocks, each read once. Raises as KuboDag does."""
    return prove_layout(root, KuboBlocks(rpc).read_block)


def good_positions(rpc: KuboRpc, layout: DagLayout, task: Task) -> set[int]:
    """Positions of the blocks that the node's CAR gives good before it breaks off."""
    good: set[int] = set()
    try:
        with rpc.dag_export(layout.root, layout.car_size) as pieces:
            for section in CarReader(io.BufferedReader(_PieceReader(pieces))):
                position = layout.find(section.cid)
                if position is not None and position not in good:
                    good.add(position)
                    task.advance(len(section.data))
    except (DataError, PeerError):
        return good  # what is wrong, or who, the questions block by block will tell
    return good


class _PieceReader(io.RawIOBase):
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
