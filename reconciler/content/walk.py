"""Traversal of the DAG under a root: block table, inner nodes and file list, from untrusted blocks.

Only inner nodes are read; the CID and the size of a raw leaf are taken from its parent. The work is bounded
by the number of blocks that exist: a subtree that occurs a thousand times is checked once, and its paths are
counted before they are listed. `bounds.py` has the limits and the rules for names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.content import dagpb, unixfs
from reconciler.content.bounds import LIMITS, DagLimits
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.examine import Examiner, NodeKind, NodeSummary, ReadBlock
from reconciler.errors import DataError

__all__ = ["DagMap", "FileNode", "Leaf", "NodeKind", "ReadBlock", "leaf_bytes", "walk"]


@dataclass(frozen=True, slots=True)
class FileNode:
    """One path of the DAG, relative to its root ("" for the root itself); `size` is 0 unless it is a file."""

    path: str
    kind: NodeKind
    size: int
    cid: Cid


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a file: the layout position of its block, and its offset and size in the file.

    The block is a raw leaf, or (in other profiles) a dag-pb node with inline bytes: see `leaf_bytes`.
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
        """Iterate over the leaves of `file` in order; an empty file has one of size 0."""
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
        """Describe where the block at `position` first occurs: a file and a byte offset, or a directory."""
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
        """Return the file offset of `wanted` below `cid`; subtrees in `seen` do not contain it."""
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
    """Check the DAG under `root` and return its map.

    `read` returns verified dag-pb blocks and is called once for each; its exceptions pass through.
    `raw_size` is the size of a root that is itself a raw block. Raises DataError when the DAG is invalid or
    exceeds `limits`, ValueError when `raw_size` is required and missing.
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
    nodes = _PathLister(examiner, limits).list(root, top)
    size = sum(node.size for node in nodes)
    return DagMap(examiner.layout, examiner.tree, nodes, size)


def leaf_bytes(layout: DagLayout, position: int, block: bytes) -> bytes:
    """Return the file bytes in the verified `block` at `position`. Raises DataError."""
    if layout.is_leaf(position):
        return block
    return unixfs.decode(dagpb.decode(block).data).data


class _PathLister:
    """An expansion of the checked directories to paths, after the number of paths was checked against the
    limits.
    """

    def __init__(self, examiner: Examiner, limits: DagLimits) -> None:
        self._children = examiner.children
        self._limits = limits
        self._bytes = 0
        self._nodes: list[FileNode] = []

    def list(self, root: Cid, top: NodeSummary) -> tuple[FileNode, ...]:
        """Return every path under `root`; the root itself only when it is not a directory."""
        if top.kind is not NodeKind.DIRECTORY:
            return (FileNode("", top.kind, top.size, root),)
        self._expand(root, "")
        return tuple(self._nodes)

    def _expand(self, directory: Cid, prefix: str) -> None:
        for child in self._children[directory]:
            path = prefix + child.name
            self._bytes += len(path)
            if self._bytes > self._limits.path_bytes:
                raise DataError(f"the paths of the DAG exceed {self._limits.path_bytes} bytes together")
            self._nodes.append(FileNode(path, child.summary.kind, child.summary.size, child.cid))
            if child.summary.kind is NodeKind.DIRECTORY:
                self._expand(child.cid, path + "/")
