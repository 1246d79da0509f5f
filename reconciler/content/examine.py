"""The examination behind `walk`: every unique inner node is read and checked once, in CAR order.

A subtree that occurs again is known by its summary, so work is bounded by the blocks that really exist.
Source of the rules for nodes: ipfs/specs `src/unixfs.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from reconciler.content import dagpb, hamt, profile, unixfs
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.dagpb import PbLink, PbNode
from reconciler.content.profile import MAX_BLOCK, DagLimits
from reconciler.content.unixfs import UnixFs, UnixFsType
from reconciler.errors import DataError

ReadBlock = Callable[[Cid], bytes]  #: the verified bytes of a dag-pb block


class NodeKind(StrEnum):
    """What a path leads to."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class Summary:
    """A subtree in numbers: file bytes, dag-pb blocks from here down the longest way, paths below it."""

    kind: NodeKind
    size: int
    height: int
    paths: int


@dataclass(frozen=True, slots=True)
class Child:
    """One entry of a directory."""

    name: str
    cid: Cid
    summary: Summary


@dataclass(frozen=True, slots=True)
class _Opened:
    """One dag-pb block, decoded."""

    cid: Cid
    node: PbNode
    message: UnixFs


class Examiner:
    """Examines every unique block once, in CAR order. Recursion is bounded by `limits.depth`."""

    def __init__(self, root: Cid, read: ReadBlock, limits: DagLimits) -> None:
        self.layout = DagLayout(root)
        self.tree: dict[Cid, bytes] = {}
        self.children: dict[Cid, tuple[Child, ...]] = {}  #: of directories, a HAMT by its root
        self._read = read
        self._limits = limits
        self._known: dict[Cid, Summary] = {}
        self._tree_bytes = 0
        self._entries = 0

    def leaf(self, cid: Cid, size: int) -> Summary:
        """A raw block whose parent says it has `size` bytes."""
        if size > MAX_BLOCK:
            raise DataError(f"leaf {cid} of {size} bytes is larger than {MAX_BLOCK} bytes")
        self._add(cid, size)
        return Summary(NodeKind.FILE, size, 0, 0)

    def visit(self, cid: Cid, depth: int) -> Summary:
        """A dag-pb block and all below it."""
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
            summary = Summary(NodeKind.SYMLINK, 0, 1, 0)
        elif message.kind is UnixFsType.DIRECTORY:
            summary = self._directory(cid, [(link.name, link) for link in node.links], depth)
        elif message.kind is UnixFsType.HAMT_SHARD:
            summary = self._sharded_directory(opened, depth)
        else:
            raise DataError(f"block {cid}: UnixFS type {message.kind.name.lower()} is not known here")
        self._known[cid] = summary
        return summary

    def _add(self, cid: Cid, size: int) -> None:
        position = self.layout.find(cid)
        if position is None:
            if len(self.layout) == self._limits.blocks:
                raise DataError(f"the DAG has more than {self._limits.blocks} blocks")
            self.layout.add(cid, size)
        elif self.layout.block_size(position) != size:
            raise DataError(f"block {cid} is given two sizes: {self.layout.block_size(position)} and {size}")

    def _open(self, cid: Cid) -> _Opened:
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
        return _Opened(cid, node, message)

    def _file(self, opened: _Opened, depth: int) -> Summary:
        cid, node, message = opened.cid, opened.node, opened.message
        said = message.file_size or 0
        if len(node.links) != len(message.block_sizes):
            raise DataError(f"block {cid}: the numbers of links and of block sizes differ")
        if message.data and node.links:
            raise DataError(f"block {cid}: a file node holds both bytes and links")
        if said != len(message.data) + sum(message.block_sizes):
            raise DataError(f"block {cid}: a file of {said} bytes whose parts do not add up to that")
        height = 0
        for link, size in zip(node.links, message.block_sizes, strict=True):
            if link.name:
                raise DataError(f"block {cid}: a part of a file has the name {link.name!r}")
            if size == 0:  # would let a file of no bytes have any number of parts
                raise DataError(f"block {cid}: a part of a file is empty")
            part = self.leaf(link.cid, size) if link.cid.codec == RAW else self.visit(link.cid, depth + 1)
            if part.kind is not NodeKind.FILE:
                raise DataError(f"block {cid}: a part of a file is a {part.kind}")
            if part.size != size:
                raise DataError(f"block {cid}: a part of {part.size} bytes is said to have {size}")
            height = max(height, part.height)
        return Summary(NodeKind.FILE, said, height + 1, 0)

    def _directory(self, cid: Cid, entries: list[tuple[bytes, PbLink]], depth: int) -> Summary:
        children = [self._child(name, link, depth) for name, link in entries]
        return self._listed(cid, children, 1 + max((child.summary.height for child in children), default=0))

    def _sharded_directory(self, opened: _Opened, depth: int) -> Summary:
        children: list[Child] = []
        height = self._shard(opened, b"", depth, children)
        return self._listed(opened.cid, children, height)

    def _shard(self, opened: _Opened, path: bytes, depth: int, children: list[Child]) -> int:
        """Collect the entries of one shard; returns its height.

        A shard may be shared between directories and is then collected again, but only under the same `path`,
        since its names must lie in their slots; and it has at least one name.
        """
        cid = opened.cid
        if path and not opened.node.links:
            raise DataError(f"block {cid}: an empty shard inside a sharded directory")
        try:
            slots = hamt.read(opened.node, opened.message, path)
        except DataError as error:
            raise DataError(f"block {cid}: {error.message}") from None
        height = 0
        for name, link in slots:
            if name:
                children.append(self._child(name, link, depth))
                height = max(height, children[-1].summary.height)
                continue
            if link.cid.codec == RAW:
                raise DataError(f"block {cid}: a raw block in place of a shard")
            if depth == self._limits.depth:
                raise DataError(f"the DAG is deeper than {self._limits.depth} blocks")
            below = self._open(link.cid)
            if below.message.kind is not UnixFsType.HAMT_SHARD:
                raise DataError(f"block {link.cid}: a {below.message.kind.name.lower()} in place of a shard")
            slot = path + bytes((int(link.name, 16),))
            height = max(height, self._shard(below, slot, depth + 1, children))
        return height + 1

    def _child(self, name: bytes, link: PbLink, depth: int) -> Child:
        # Every entry examined is listed at least once, so this count never says too much.
        self._entries += 1
        if self._entries > self._limits.paths:
            raise DataError(f"the DAG lists more than {self._limits.paths} files and directories")
        text = profile.decode(name)
        # A raw block in a directory is a whole file, and its cumulative size is its own.
        raw = link.cid.codec == RAW
        summary = self.leaf(link.cid, link.tsize) if raw else self.visit(link.cid, depth + 1)
        return Child(text, link.cid, summary)

    def _listed(self, cid: Cid, children: list[Child], height: int) -> Summary:
        seen: dict[str, str] = {}
        for child in children:
            key = profile.collision_key(child.name)
            if key in seen:
                raise DataError(
                    f"block {cid}: names {seen[key]!r} and {child.name!r} collide on some file systems"
                )
            seen[key] = child.name
        self.children[cid] = tuple(children)
        paths = sum(1 + child.summary.paths for child in children)
        return Summary(NodeKind.DIRECTORY, 0, height, paths)
