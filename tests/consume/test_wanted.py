"""What is wanted on disk, and where each block of it goes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from reconciler.consume import wanted
from reconciler.consume.fetch import fetch
from reconciler.consume.local import Blocks
from reconciler.consume.wanted import FileSpan, places, select
from reconciler.content import dagpb, unixfs
from reconciler.content.cid import RAW, of
from reconciler.content.profile import LIMITS
from reconciler.content.walk import DagMap, walk
from reconciler.errors import DataError
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks
from tests.support.dags import MemoryDag
from tests.support.shapes import Builder


def map_of(dag: MemoryDag) -> DagMap:
    return walk(dag.layout.root, dag.blocks.__getitem__)


def bomb(levels: int, links: int) -> MemoryDag:
    """A file that claims `links` to the power of `levels` leaves of a byte, in one block a level."""
    build = Builder("bomb")
    cid, size = of(RAW, b"x"), 1
    build.blocks[cid] = b"x"
    for _ in range(levels):
        block = dagpb.encode([dagpb.PbLink(b"", cid, size)] * links, unixfs.file([size] * links))
        cid, size = of(0x70, block), size * links
        build.blocks[cid] = block
    return MemoryDag(cid, build.blocks)


def test_every_place_of_a_block_is_known(dag: MemoryDag) -> None:
    found = places(select(map_of(dag)))
    names = [node.path for node in select(map_of(dag)).files]
    twice = [where for where in found.values() if len(where) == 2]
    assert len(twice) == 6
    assert {names[place.file] for place in twice[0]} == {"twice.bin", "sub/twice.bin"}
    first = found[next(iter(found))]
    assert first == (FileSpan(first[0].file, 0, first[0].size),)
    assert len(found) == len(list(found)) == 70 + 6 + 1 + 1
    with pytest.raises(KeyError):
        found[0]  # the root is no leaf
    with pytest.raises(KeyError):
        found[10_000]


def test_a_file_of_more_leaves_than_there_could_be_is_an_error_at_once_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wanted, "_MOST_LEAVES", 5000)
    dag = bomb(5, 1000)
    with pytest.raises(DataError, match="more than 5000 leaves"):
        fetch(dag.layout.root, tmp_path / "d", [Blocks("memory", DagBlocks(dag))], QUIET, name="it")
    assert list(tmp_path.iterdir()) == []


def test_places_cost_a_few_numbers_each() -> None:
    every = select(map_of(bomb(2, 200)))
    tracemalloc.start()
    found = places(every)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found[len(every.map.layout) - 1]) == 40_000
    assert size < 40_000 * 60
    assert LIMITS.blocks * 60 < 256 << 20
