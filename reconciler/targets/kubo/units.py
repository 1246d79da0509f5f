"""The parts of a DAG that a node can make itself from the bytes of files: `add` instead of `dag/import`.

A node that is sent a file chunks and hashes it, which costs it less than to unpack a CAR and to check each
block. By the profile, the first level of inner nodes has up to 1,024 leaves of 1 MiB; the tree of exactly
these bytes as a file is this node and its leaves. So the unit is such a node, not a whole file: a large file
is several of them, which are sent side by side, and no block comes into being that the DAG does not have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from reconciler.content import dagpb, profile, unixfs
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.content.unixfs import UnixFsType
from reconciler.errors import DataError

_SMALLEST = 16 << 20  # bytes; smaller ones are sent together in CARs


@dataclass(frozen=True, slots=True)
class AddUnit:
    """An inner node whose children are leaves: its CID, and their positions in the layout."""

    cid: Cid
    position: int
    leaves: tuple[int, ...]
    size: int  #: bytes of the leaves


def find_units(dag: Dag, missing: Collection[int]) -> Iterator[AddUnit]:
    """Yield the units whose leaves are all in `missing`, and in no earlier unit.

    Raises what `dag.read` raises.
    """
    layout = dag.layout
    left = set(missing)
    for position in sorted(missing):
        if layout.is_leaf(position) or position not in left:
            continue
        unit = _unit(dag, position)
        if unit is not None and unit.size >= _SMALLEST and left.issuperset(unit.leaves):
            left.difference_update(unit.leaves)
            yield unit


def choose_units(units: Collection[AddUnit], rest: int, streams: int) -> list[AddUnit]:
    """Return the units to add on `streams` streams, the largest first; the others are better sent in CARs.

    A unit is one stream, CARs fill any gap; `rest` are the bytes that go into CARs anyway. So units are left
    out while they would keep one stream busy when the others have nothing left to send.
    """
    chosen = sorted(units, key=lambda unit: unit.size, reverse=True)
    while chosen:
        loads = [0] * streams
        for unit in chosen:
            loads[loads.index(min(loads))] += unit.size
        if sum(max(loads) - load for load in loads) <= rest + _SMALLEST:
            break
        rest += chosen.pop(0).size
    return chosen


def _unit(dag: Dag, position: int) -> AddUnit | None:
    """Return the unit at `position`; None when a node would not make this block from these bytes."""
    layout = dag.layout
    try:
        node = dagpb.decode(dag.read(position))
        message = unixfs.decode(node.data)
    except DataError:
        return None
    if message.kind is not UnixFsType.FILE or message.data or not 1 < len(node.links) <= profile.MAX_LINKS:
        return None
    found = [layout.find(link.cid) for link in node.links]
    leaves = tuple(each for each in found if each is not None and layout.is_leaf(each))
    if len(set(leaves)) != len(node.links):  # repeated bytes would be sent again
        return None
    if any(layout.block_size(leaf) != profile.CHUNK_SIZE for leaf in leaves[:-1]):
        return None
    return AddUnit(layout.cid(position), position, leaves, sum(map(layout.block_size, leaves)))
