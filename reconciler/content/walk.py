"""From a root CID to everything below it: block table, inner nodes and file list, from untrusted blocks.

Only inner nodes are read; a raw leaf is known by its CID and by the size its parent gives. Work is bounded by
the blocks that really exist: a subtree that occurs a thousand times is examined once, and what it expands to
is counted before it is expanded. Rules: `limits.py` (costs), `names.py` (names), ipfs/specs `src/unixfs.md`
(nodes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.content import dagpb, unixfs
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.examine import Examiner, NodeKind, ReadBlock, Summary
from reconciler.content.profile import LIMITS, DagLimits
from reconciler.errors import DataError

__all__ = ["DagMap", "FileNode", "Leaf", "NodeKind", "ReadBlock", "leaf_bytes", "walk"]


@dataclass(frozen=True, slots=True)
class FileNode:
    """One path of the DAG, relative to its root ("" for the root itself); `size` in bytes, of files only."""

    path: str
    kind: NodeKind
    size: int
    cid: Cid


@dataclass(frozen=True, slots=True)
class Leaf:
    """One stretch of a file: the layout position of the block that holds it, and its bytes in the file.

    The block is a raw leaf, or (not in our profile) a dag-pb node with the bytes inline: see `leaf_bytes`.
    """

    position: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class DagMap:
    """A whole DAG without its leaves.

    `layout` has every block in CAR order, `tree` the inner nodes with links, `nodes` every path but the root
    of a directory, parents first, in link order. `size` is the bytes of all files as listed.
    """

    layout: DagLayout
    tree: Mapping[Cid, bytes]
    nodes: tuple[FileNode, ...]
    size: int

    def leaves(self, file: FileNode) -> Iterator[Leaf]:
        """The leaves of `file` in order; an empty file has one of size 0."""
        return self._leaves(file.cid, 0, file.size)

    def _leaves(self, cid: Cid, offset: int, size: int) -> Iterator[Leaf]:
        if cid not in self.tree:
            position = self.layout.find(cid)
            if position is None:
                raise KeyError(cid)
            yield Leaf(position, offset, size)
            return
        node = dagpb.decode(self.tree[cid])
        for link, part in zip(node.links, unixfs.decode(node.data).block_sizes, strict=True):
            yield from self._leaves(link.cid, offset, part)
            offset += part

    def locate(self, position: int) -> str:
        """Where the block at `position` first occurs, in words: a file and a byte offset, or a directory."""
        cid = self.layout.cid(position)
        seen: set[Cid] = set()
        for node in self.nodes:
            if node.cid == cid:
                return f"{node.kind} {node.path!r}"
            if node.kind is NodeKind.FILE:
                offset = self._find(node.cid, cid, 0, seen)
                if offset is not None:
                    return f"file {node.path!r} at byte {offset}"
        return "the directory structure"

    def _find(self, cid: Cid, wanted: Cid, offset: int, seen: set[Cid]) -> int | None:
        """The file offset of `wanted` below `cid`; subtrees in `seen` are known not to hold it."""
        if cid == wanted:
            return offset
        if cid not in self.tree or cid in seen:
            return None
        seen.add(cid)
        node = dagpb.decode(self.tree[cid])
        for link, part in zip(node.links, unixfs.decode(node.data).block_sizes, strict=True):
            found = self._find(link.cid, wanted, offset, seen)
            if found is not None:
                return found
            offset += part
        return None


def walk(root: Cid, read: ReadBlock, *, raw_size: int | None = None, limits: DagLimits = LIMITS) -> DagMap:
    """Examine the DAG under `root`.

    `read` hands out verified dag-pb blocks and is called once for each; what it raises passes through.
    `raw_size` is the size of a root that is itself a raw block. Raises DataError when the DAG does not hold
    or costs more than `limits`, ValueError when `raw_size` is needed and missing.
    """
    examiner = Examiner(root, read, limits)
    if root.codec == RAW:
        if raw_size is None:
            raise ValueError("the size of a raw root cannot be derived")
        top = examiner.leaf(root, raw_size)
    else:
        top = examiner.visit(root, 1)
    if top.paths > limits.paths:
        raise DataError(f"the DAG lists more than {limits.paths} files and directories")
    nodes = _Lister(examiner, limits).list(root, top)
    size = sum(node.size for node in nodes)
    return DagMap(examiner.layout, examiner.tree, nodes, size)


def leaf_bytes(layout: DagLayout, position: int, block: bytes) -> bytes:
    """The file bytes in the verified `block` at `position`. Raises DataError."""
    if layout.is_leaf(position):
        return block
    return unixfs.decode(dagpb.decode(block).data).data


class _Lister:
    """Expands the examined directories to paths, after their number was found to be within the limits."""

    def __init__(self, examiner: Examiner, limits: DagLimits) -> None:
        self._children = examiner.children
        self._limits = limits
        self._bytes = 0
        self._nodes: list[FileNode] = []

    def list(self, root: Cid, top: Summary) -> tuple[FileNode, ...]:
        """Every path under `root`; the root itself only when it is no directory."""
        if top.kind is not NodeKind.DIRECTORY:
            return (FileNode("", top.kind, top.size, root),)
        self._expand(root, "")
        return tuple(self._nodes)

    def _expand(self, directory: Cid, prefix: str) -> None:
        for child in self._children[directory]:
            path = prefix + child.name
            self._bytes += len(path)
            if self._bytes > self._limits.path_bytes:
                raise DataError("the paths of the DAG are too long together")
            self._nodes.append(FileNode(path, child.summary.kind, child.summary.size, child.cid))
            if child.summary.kind is NodeKind.DIRECTORY:
                self._expand(child.cid, path + "/")
