"""A root as a node serves it: verified blocks by CID, and the Dag that heals others.

One request for a block takes about a millisecond, whatever its size. `dag/export` serves all blocks in our
order, but stops at the first that is missing or damaged; the remaining blocks are then requested one by one.
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
from reconciler.targets.kubo.rpc import KuboRpc, WrongBytesError


class KuboBlocks:
    """The blocks of a node, each verified. Usable from several threads."""

    def __init__(self, rpc: KuboRpc) -> None:
        self._rpc = rpc

    def read_block(self, cid: Cid) -> bytes:
        """Read and verify a block. Raises BlockUnavailableError when it is missing or damaged, PeerError."""
        try:
            data = self._rpc.block_get(cid)
        except WrongBytesError:
            raise UnusableBlockError(self._rpc.name, cid, damaged=True) from None
        if data is None:
            raise UnusableBlockError(self._rpc.name, cid, damaged=False)
        return data

    def close(self) -> None:
        """Do nothing: the connections belong to the target."""


class UnusableBlockError(BlockUnavailableError):
    """The node does not have the block `cid`, or (`damaged`) has other bytes under it."""

    def __init__(self, peer: str, cid: Cid, *, damaged: bool) -> None:
        super().__init__(f"block {cid} is {'damaged' if damaged else 'missing'} on {peer}")
        self.cid = cid
        self.damaged = damaged


class KuboDag:
    """The Dag under `root` on a node. The constructor proves the layout from the inner nodes.

    It raises BlockUnavailableError when an inner node is missing or damaged, DataError when they are invalid.
    """

    def __init__(self, rpc: KuboRpc, root: Cid) -> None:
        self._blocks = KuboBlocks(rpc)
        self._layout = prove_layout(root, self._blocks.read_block)

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._layout

    def read(self, position: int) -> bytes:
        """Read and verify the block at `position`. Raises as KuboBlocks.read_block does."""
        return self._blocks.read_block(self._layout.cid(position))

    def close(self) -> None:
        """Do nothing: the connections belong to the target."""


def read_layout(rpc: KuboRpc, root: Cid) -> DagLayout:
    """Prove the layout of `root` from the inner nodes of the node. Raises as KuboDag does."""
    return prove_layout(root, KuboBlocks(rpc).read_block)


def positions_in_export(rpc: KuboRpc, layout: DagLayout, task: Task) -> set[int]:
    """Return the positions of the blocks that an export of the node contains before it breaks off."""
    good: set[int] = set()
    try:
        with rpc.dag_export(layout.root, layout.car_size) as pieces:
            for section in CarReader(io.BufferedReader(_PieceReader(pieces))):
                position = layout.find(section.cid)
                if position is not None and position not in good:
                    good.add(position)
                    task.advance(len(section.data))
    except (DataError, PeerError):
        return good  # the requests for single blocks show what is wrong
    return good


class _PieceReader(io.RawIOBase):
    """A readable stream over pieces of bytes."""

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
