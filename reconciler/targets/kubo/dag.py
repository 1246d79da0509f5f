"""A root as a node serves it: verified blocks by CID, and the Dag that heals others."""

from __future__ import annotations

from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import BlockUnavailable
from reconciler.targets.healing import prove_layout
from reconciler.targets.kubo.answers import WrongBytes
from reconciler.targets.kubo.rpc import KuboRpc


class KuboBlocks:
    """What a node has, block by block, each verified. Reads are safe from several threads."""

    def __init__(self, rpc: KuboRpc) -> None:
        self._rpc = rpc

    def read_block(self, cid: Cid) -> bytes:
        """The verified block. Raises BlockUnavailable when it is missing or damaged there, PeerError."""
        try:
            data = self._rpc.block_get(cid)
        except WrongBytes:
            raise NotGoodThere(self._rpc.name, cid, damaged=True) from None
        if data is None:
            raise NotGoodThere(self._rpc.name, cid, damaged=False)
        return data

    def close(self) -> None:
        """Nothing stays open; the connections are the target's."""


class NotGoodThere(BlockUnavailable):
    """The node does not have the block `cid`, or (`damaged`) has other bytes under it."""

    def __init__(self, peer: str, cid: Cid, *, damaged: bool) -> None:
        super().__init__(f"block {cid} is {'damaged' if damaged else 'missing'} on {peer}")
        self.cid = cid
        self.damaged = damaged


class KuboDag:
    """The Dag under `root` on a node; the layout is proven from the tree blocks when it is made.

    Raises BlockUnavailable when a tree block is missing or damaged, DataError when they make no DAG.
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
