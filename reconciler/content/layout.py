"""From the leaves of a file to its tree: the balanced layout of the profile.

A file of at most one chunk is one raw block. A larger one is cut into chunks, every chunk a raw leaf; up to
MAX_LINKS nodes share a parent, level by level, until one node is left. All leaves lie at the same depth, so a
last parent may have a single child. Source: IPIP-499 and ipfs/specs `src/unixfs.md`.

From the entries of a directory to its tree: one block, or a HAMT when that block would be too large.

Links are sorted by the UTF-8 bytes of their names, which are never normalised. The switch is judged on the
full serialized block, strictly: a block of exactly DIRECTORY_BLOCK_LIMIT bytes stays. Source: IPIP-499.
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
    """A file's or directory's own inner nodes.

    `tsize` is the serialized bytes of the whole DAG, duplicates counted, as a parent writes it; `size` the
    bytes of the file, 0 for a directory; `blocks` the dag-pb blocks by CID (none for a file of one leaf; for
    a directory only its own node or shards, not what its entries point to).
    """

    cid: Cid
    tsize: int
    size: int
    blocks: Mapping[Cid, bytes]


@dataclass(frozen=True, slots=True)
class _Child:
    cid: Cid
    tsize: int
    size: int


def leaf_count(size: int) -> int:
    """How many leaves a file of `size` bytes has; an empty one has one."""
    return max(1, -(-size // profile.CHUNK_SIZE))


def file_tree(size: int, leaves: bytes) -> Tree:
    """The tree of a file of `size` bytes.

    `leaves` holds the 32-byte sha2-256 digest of every chunk, in order; an empty file has one, of b"".
    Raises ValueError when their number does not fit the size.
    """
    count = leaf_count(size)
    if len(leaves) != DIGEST_SIZE * count:
        raise ValueError(f"{len(leaves)} bytes of leaves for a file of {size} bytes")
    last = size - (count - 1) * profile.CHUNK_SIZE
    if count == 1:
        return Tree(Cid(RAW, leaves), last, size, {})
    blocks: dict[Cid, bytes] = {}
    level: list[_Child] = []
    for start in range(0, count, profile.MAX_LINKS):
        stop = min(start + profile.MAX_LINKS, count)
        children = [
            _Child(Cid(RAW, leaves[DIGEST_SIZE * i : DIGEST_SIZE * (i + 1)]), chunk, chunk)
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


def _parent(children: list[_Child], blocks: dict[Cid, bytes]) -> _Child:
    """Add the node over `children` to `blocks`."""
    links = [dagpb.PbLink(b"", child.cid, child.tsize) for child in children]
    block = dagpb.encode(links, unixfs.file([child.size for child in children]))
    cid = cids.hash_block(DAG_PB, block)
    blocks[cid] = block
    return _Child(
        cid, len(block) + sum(child.tsize for child in children), sum(child.size for child in children)
    )


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One name in a directory and the DAG behind it; `tsize` as in Tree."""

    name: str
    cid: Cid
    tsize: int


def directory_tree(entries: Iterable[DirectoryEntry]) -> Tree:
    """The tree of a directory with `entries`, in any order.

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
