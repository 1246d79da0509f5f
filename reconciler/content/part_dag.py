"""The DAG that keeps a part of a version on a target before the whole is known: a directory of its leaves.

    <key>/<position>

`key` identifies what the version is made from, `position` is the place of the leaf in the provisional layout,
in decimal digits. So the directory says which leaf belongs where, its root keeps all of them, and any program
that reads UnixFS can list it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconciler.content.cid import Cid
from reconciler.content.dag import Block, DagLayout
from reconciler.content.identify import build_layout
from reconciler.content.unixfs_tree import DirectoryEntry, directory_tree
from reconciler.content.walk import NodeKind, ReadBlock, walk
from reconciler.errors import DataError


class PartDag:
    """The Dag of a part with `key`: `leaves` are its blocks by their positions in the provisional layout.

    `read_leaf` returns the verified bytes of the leaf at a position of the provisional layout.
    """

    def __init__(self, key: str, leaves: Mapping[int, Block], read_leaf: Callable[[int], bytes]) -> None:
        inner = directory_tree(
            DirectoryEntry(str(position), block.cid, block.size) for position, block in leaves.items()
        )
        outer = directory_tree([DirectoryEntry(key, inner.cid, inner.tsize)])
        self._tree = {**inner.blocks, **outer.blocks}
        self._places: dict[Cid, int] = {}
        for position, block in leaves.items():
            self._places.setdefault(block.cid, position)
        self._read_leaf = read_leaf
        self.layout: DagLayout = build_layout(outer, self._tree)

    def read(self, position: int) -> bytes:
        """Return the block at `position` of the part's own layout. Raises as `read_leaf` does."""
        cid = self.layout.cid(position)
        return self._tree[cid] if cid in self._tree else self._read_leaf(self._places[cid])

    def close(self) -> None:
        """Do nothing: the leaves belong to the caller."""


def read_part(root: Cid, key: str, read: ReadBlock) -> dict[int, Cid]:
    """Return the leaves of the part under `root`, by position; none when it has another key.

    Only the directory is read, not the leaves. Raises DataError for anything that is not a part, and what
    `read` raises.
    """
    found = {}
    for node in walk(root, read).nodes:
        name, _, position = node.path.partition("/")
        if name != key:
            return {}
        if node.kind is NodeKind.DIRECTORY and not position:
            continue
        if not (position.isascii() and position.isdigit() and len(position) < 10):
            raise DataError(f"{root} is not part of a version: it has {node.path[:80]!r}")
        found[int(position)] = node.cid
    return found
