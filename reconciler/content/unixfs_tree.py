"""The trees of files and directories, as the profile defines them.

Files have the balanced layout. A file of at most one chunk is one raw block. A larger one is split into
chunks, each a raw leaf; up to MAX_LINKS nodes share a parent, level by level, until one node is left. All
leaves have the same depth, so the last parent may have a single child.

A directory is one block, or a HAMT when the serialized block would be larger than DIRECTORY_BLOCK_LIMIT
bytes. Links are sorted by the UTF-8 bytes of their names, which are never normalized.

Source: IPIP-499 and ipfs/specs `src/unixfs.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from reconciler.content import cid as cids
from reconciler.content import dagpb, hamt, profile, unixfs
from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.content.dagpb import PbLink

DIGEST_SIZE = 32  #: bytes of one leaf in the `leaves` of a file


@dataclass(frozen=True, slots=True)
class Tree:
    """The root and the inner nodes of one file or directory.

    `tsize` is the serialized size of the whole DAG, duplicates counted, as a parent declares it; `size` the
    bytes of the file, 0 for a directory; `blocks` the dag-pb blocks by CID (none for a file of one leaf; for
    a directory only its own node or shards, not those of its entries).
    """

    cid: Cid
    tsize: int
    size: int
    blocks: Mapping[Cid, bytes]


@dataclass(frozen=True, slots=True)
class _TreeNode:
    """A leaf or an inner node of a file; `size` is its bytes of the file."""

    cid: Cid
    tsize: int
    size: int


def leaf_count(size: int) -> int:
    """Return the number of leaves of a file of `size` bytes; an empty file has one."""
    return max(1, -(-size // profile.CHUNK_SIZE))


def file_tree(size: int, leaves: bytes) -> Tree:
    """Build the tree of a file of `size` bytes.

    `leaves` contains the 32-byte sha2-256 digest of every chunk, in order; an empty file has one, of b"".
    Raises ValueError when their number does not match the size.
    """
    count = leaf_count(size)
    if len(leaves) != DIGEST_SIZE * count:
        raise ValueError(f"{len(leaves)} bytes of leaves for a file of {size} bytes")
    last = size - (count - 1) * profile.CHUNK_SIZE
    if count == 1:
        return Tree(Cid(RAW, leaves), last, size, {})
    blocks: dict[Cid, bytes] = {}
    level: list[_TreeNode] = []
    for start in range(0, count, profile.MAX_LINKS):
        stop = min(start + profile.MAX_LINKS, count)
        children = [
            _TreeNode(Cid(RAW, leaves[DIGEST_SIZE * i : DIGEST_SIZE * (i + 1)]), chunk, chunk)
            for i in range(start, stop)
            for chunk in (last if i == count - 1 else profile.CHUNK_SIZE,)
        ]
        level.append(_parent(children, blocks))
    while len(level) > 1:
        level = [
            _parent(level[start : start + profile.MAX_LINKS], blocks)
            for start in range(0, len(level), profile.MAX_LINKS)
        ]
    root = level[0]
    return Tree(root.cid, root.tsize, size, blocks)


def _parent(children: list[_TreeNode], blocks: dict[Cid, bytes]) -> _TreeNode:
    """Build the parent of `children`, add its block to `blocks`, and return it."""
    links = [dagpb.PbLink(b"", child.cid, child.tsize) for child in children]
    block = dagpb.encode(links, unixfs.file([child.size for child in children]))
    cid = cids.hash_block(DAG_PB, block)
    blocks[cid] = block
    return _TreeNode(
        cid, len(block) + sum(child.tsize for child in children), sum(child.size for child in children)
    )


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A name in a directory and the DAG under it; `tsize` as in Tree."""

    name: str
    cid: Cid
    tsize: int


def directory_tree(entries: Iterable[DirectoryEntry]) -> Tree:
    """Build the tree of a directory with `entries`, given in any order.

    Raises ValueError when two entries share a name.
    """
    links = sorted((PbLink(entry.name.encode(), entry.cid, entry.tsize) for entry in entries), key=_name)
    if any(one.name == other.name for one, other in pairwise(links)):
        raise ValueError("two entries share a name")
    below = sum(link.tsize for link in links)
    size = sum(dagpb.link_size(len(link.name), link.tsize) for link in links) + 2 + len(unixfs.DIRECTORY)
    if size > profile.DIRECTORY_BLOCK_LIMIT:
        blocks: dict[Cid, bytes] = {}
        root = hamt.build(links, blocks)
        return Tree(root.cid, root.tsize, 0, blocks)
    block = dagpb.encode(links, unixfs.DIRECTORY)
    cid = cids.hash_block(DAG_PB, block)
    return Tree(cid, len(block) + below, 0, {cid: block})


def _name(link: PbLink) -> bytes:
    return link.name
