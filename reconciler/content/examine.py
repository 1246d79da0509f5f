"""Checks of the nodes of a DAG, for `walk`: every unique inner node is read and checked once, in CAR order.

A subtree that occurs again is replaced by its summary, so the work is bounded by the number of blocks that
exist. Source of the rules for nodes: ipfs/specs `src/unixfs.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from reconciler.content import bounds, dagpb, hamt, unixfs
from reconciler.content.bounds import MAX_BLOCK, DagLimits
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.dagpb import PbLink, PbNode
from reconciler.content.unixfs import UnixFs, UnixFsType
from reconciler.errors import DataError

ReadBlock = Callable[[Cid], bytes]  #: returns the verified bytes of a dag-pb block


class NodeKind(StrEnum):
    """The kind of entry at a path."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """A subtree in numbers: bytes of a file, height in dag-pb blocks, number of paths below it."""

    kind: NodeKind
    size: int
    height: int
    paths: int


@dataclass(frozen=True, slots=True)
class DirectoryChild:
    """One entry of a directory."""

    name: str
    cid: Cid
    summary: NodeSummary


@dataclass(frozen=True, slots=True)
class _DecodedBlock:
    """One dag-pb block, decoded."""

    cid: Cid
    node: PbNode
    message: UnixFs


class Examiner:
    """A check of a DAG that reads every unique block once, in CAR order.

    Recursion is bounded by `limits.depth`.
    """

    def __init__(self, root: Cid, read: ReadBlock, limits: DagLimits) -> None:
        self.layout = DagLayout(root)
        self.tree: dict[Cid, bytes] = {}
        self.children: dict[Cid, tuple[DirectoryChild, ...]] = {}  #: of directories, a HAMT by its root
        self._read = read
        self._limits = limits
        self._known: dict[Cid, NodeSummary] = {}
        self._tree_bytes = 0
        self._entries = 0

    def leaf(self, cid: Cid, size: int) -> NodeSummary:
        """Add a raw block that has `size` bytes according to its parent."""
        if size > MAX_BLOCK:
            raise DataError(f"leaf {cid} of {size} bytes is larger than {MAX_BLOCK} bytes")
        self._add(cid, size)
        return NodeSummary(NodeKind.FILE, size, 0, 0)

    def visit(self, cid: Cid, depth: int) -> NodeSummary:
        """Check a dag-pb block and everything below it. Raises DataError and what reading raises."""
        known = self._known.get(cid)
        if depth + (known.height if known else 1) - 1 > self._limits.depth:
            raise DataError(f"the DAG is deeper than {self._limits.depth} blocks")
        if known:
            return known
        opened = self._open(cid)
        node, message = opened.node, opened.message
        if message.kind in (UnixFsType.FILE, UnixFsType.RAW):
            summary = self._file(opened, depth)
        elif message.kind is UnixFsType.SYMLINK:
            if node.links:
                raise DataError(f"block {cid}: a symlink has links")
            summary = NodeSummary(NodeKind.SYMLINK, 0, 1, 0)
        elif message.kind is UnixFsType.DIRECTORY:
            summary = self._directory(cid, [(link.name, link) for link in node.links], depth)
        elif message.kind is UnixFsType.HAMT_SHARD:
            summary = self._sharded_directory(opened, depth)
        else:
            raise DataError(f"block {cid}: UnixFS type {message.kind.name.lower()} is not supported")
        self._known[cid] = summary
        return summary

    def _add(self, cid: Cid, size: int) -> None:
        position = self.layout.find(cid)
        if position is None:
            if len(self.layout) == self._limits.blocks:
                raise DataError(f"the DAG has more than {self._limits.blocks} blocks")
            self.layout.add(cid, size)
        elif self.layout.block_size(position) != size:
            raise DataError(
                f"block {cid} is declared with two sizes: {self.layout.block_size(position)} and {size}"
            )

    def _open(self, cid: Cid) -> _DecodedBlock:
        """Read a dag-pb block, add it to the layout, and decode it."""
        block = self.tree[cid] if cid in self.tree else self._read(cid)
        if len(block) > MAX_BLOCK:
            raise DataError(f"block {cid} of {len(block)} bytes is larger than {MAX_BLOCK} bytes")
        self._add(cid, len(block))
        try:
            node = dagpb.decode(block)
            message = unixfs.decode(node.data)
        except DataError as error:
            raise DataError(f"block {cid}: {error.message}") from None
        is_leaf = message.kind in (UnixFsType.FILE, UnixFsType.RAW) and not node.links
        if not is_leaf and cid not in self.tree:
            self._tree_bytes += len(block)
            if self._tree_bytes > self._limits.tree_bytes:
                raise DataError(f"the DAG has more than {self._limits.tree_bytes} bytes of inner nodes")
            self.tree[cid] = block
        return _DecodedBlock(cid, node, message)

    def _file(self, opened: _DecodedBlock, depth: int) -> NodeSummary:
        cid, node, message = opened.cid, opened.node, opened.message
        declared = message.file_size or 0
        if len(node.links) != len(message.block_sizes):
            raise DataError(f"block {cid}: the number of links differs from the number of block sizes")
        if message.data and node.links:
            raise DataError(f"block {cid}: a file node has both bytes and links")
        if declared != len(message.data) + sum(message.block_sizes):
            raise DataError(f"block {cid}: a file of {declared} bytes whose parts have another total size")
        height = 0
        for link, size in zip(node.links, message.block_sizes, strict=True):
            if link.name:
                raise DataError(f"block {cid}: the link to a part of a file has the name {link.name!r}")
            if size == 0:  # otherwise an empty file could have any number of parts
                raise DataError(f"block {cid}: a part of a file is empty")
            part = self.leaf(link.cid, size) if link.cid.codec == RAW else self.visit(link.cid, depth + 1)
            if part.kind is not NodeKind.FILE:
                raise DataError(f"block {cid}: a part of a file is a {part.kind}")
            if part.size != size:
                raise DataError(f"block {cid}: a part of {part.size} bytes is declared with {size}")
            height = max(height, part.height)
        return NodeSummary(NodeKind.FILE, declared, height + 1, 0)

    def _directory(self, cid: Cid, entries: list[tuple[bytes, PbLink]], depth: int) -> NodeSummary:
        children = [self._child(name, link, depth) for name, link in entries]
        return self._summarize_directory(
            cid, children, 1 + max((child.summary.height for child in children), default=0)
        )

    def _sharded_directory(self, opened: _DecodedBlock, depth: int) -> NodeSummary:
        children: list[DirectoryChild] = []
        height = self._shard(opened, b"", depth, children)
        return self._summarize_directory(opened.cid, children, height)

    def _shard(self, opened: _DecodedBlock, path: bytes, depth: int, children: list[DirectoryChild]) -> int:
        """Collect the entries of one shard and return its height.

        A shard that is shared between directories is collected again, but only under the same `path`, since
        its names must be in their slots; and it has at least one name.
        """
        cid = opened.cid
        if path and not opened.node.links:
            raise DataError(f"block {cid}: an empty shard inside a sharded directory")
        try:
            slots = hamt.read_shard(opened.node, opened.message, path)
        except DataError as error:
            raise DataError(f"block {cid}: {error.message}") from None
        height = 0
        for name, link in slots:
            if name:
                children.append(self._child(name, link, depth))
                height = max(height, children[-1].summary.height)
                continue
            if link.cid.codec == RAW:
                raise DataError(f"block {cid}: a raw block instead of a shard")
            if depth == self._limits.depth:
                raise DataError(f"the DAG is deeper than {self._limits.depth} blocks")
            below = self._open(link.cid)
            if below.message.kind is not UnixFsType.HAMT_SHARD:
                raise DataError(f"block {link.cid}: a {below.message.kind.name.lower()} instead of a shard")
            slot = path + bytes((int(link.name, 16),))
            height = max(height, self._shard(below, slot, depth + 1, children))
        return height + 1

    def _child(self, name: bytes, link: PbLink, depth: int) -> DirectoryChild:
        # Every entry visited is listed at least once, so this never counts too many.
        self._entries += 1
        if self._entries > self._limits.paths:
            raise DataError(f"the DAG lists more than {self._limits.paths} files and directories")
        text = bounds.decode_name(name)
        # A raw block in a directory is a whole file, so its Tsize is the size of the file.
        raw = link.cid.codec == RAW
        summary = self.leaf(link.cid, link.tsize) if raw else self.visit(link.cid, depth + 1)
        return DirectoryChild(text, link.cid, summary)

    def _summarize_directory(self, cid: Cid, children: list[DirectoryChild], height: int) -> NodeSummary:
        seen: set[str] = set()
        for child in children:
            if child.name in seen:
                raise DataError(f"block {cid}: two entries have the name {child.name!r}")
            seen.add(child.name)
        self.children[cid] = tuple(children)
        paths = sum(1 + child.summary.paths for child in children)
        return NodeSummary(NodeKind.DIRECTORY, 0, height, paths)
