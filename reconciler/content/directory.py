"""From the entries of a directory to its tree: one block, or a HAMT when that block would be too large.

Links are sorted by the UTF-8 bytes of their names, which are never normalised. The switch is judged on the
full serialized block, strictly: a block of exactly DIRECTORY_BLOCK_LIMIT bytes stays. Source: IPIP-499.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from reconciler.content import cid as cids
from reconciler.content import dagpb, hamt, profile, unixfs
from reconciler.content.cid import DAG_PB, Cid
from reconciler.content.dagpb import Link
from reconciler.content.layout import Tree


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory and the DAG behind it; `tsize` as in Tree."""

    name: str
    cid: Cid
    tsize: int


def directory_tree(entries: Iterable[Entry]) -> Tree:
    """The tree of a directory with `entries`, in any order.

    Raises ValueError when two entries share a name.
    """
    links = sorted((Link(entry.name.encode(), entry.cid, entry.tsize) for entry in entries), key=_name)
    if any(one.name == other.name for one, other in pairwise(links)):
        raise ValueError("two entries share a name")
    below = sum(link.tsize for link in links)
    size = sum(dagpb.link_size(len(link.name), link.tsize) for link in links) + 2 + len(unixfs.DIRECTORY)
    if size > profile.DIRECTORY_BLOCK_LIMIT:
        blocks: dict[Cid, bytes] = {}
        root = hamt.build(links, blocks)
        return Tree(root.cid, root.tsize, 0, blocks)
    block = dagpb.encode(links, unixfs.DIRECTORY)
    cid = cids.of(DAG_PB, block)
    return Tree(cid, len(block) + below, 0, {cid: block})


def _name(link: Link) -> bytes:
    return link.name
