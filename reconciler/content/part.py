"""The part of a DAG at a path: one file or directory as a DAG of its own."""

from __future__ import annotations

from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.walk import DagMap, walk
from reconciler.errors import BlockUnavailableError, UsageError


class PartialDag:
    """The Dag of the file or directory at `path` below the root of `whole`, which it does not own.

    Raises UsageError when there is none, DataError for an invalid DAG, and what reading `whole` raises.
    """

    def __init__(self, whole: Dag, path: str) -> None:
        self._whole = whole
        root = whole.layout.root
        cid = cid_below(self._map(root), root, path)
        self._layout = self._map(cid).layout

    def _map(self, cid: Cid) -> DagMap:
        return walk(cid, self._read_block, raw_size=len(self._read_block(cid)) if cid.codec == RAW else None)

    def _read_block(self, cid: Cid) -> bytes:
        position = self._whole.layout.find(cid)
        if position is None:
            raise BlockUnavailableError(f"block {cid} is not in {self._whole.layout.root}")
        return self._whole.read(position)

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._layout

    def read(self, position: int) -> bytes:
        """Read the block at `position`. Raises as Dag.read of the whole."""
        return self._read_block(self._layout.cid(position))

    def close(self) -> None:
        """Do nothing: the files and connections belong to the whole."""


def cid_below(found: DagMap, root: Cid, path: str) -> Cid:
    """Return the CID of the file or directory at `path` below `root`. Raises UsageError without one."""
    for node in found.nodes:
        if node.path == path:
            return node.cid
    raise UsageError(f"{root} has no {path!r}", hint="fetch the CID without a path to see what it has")
