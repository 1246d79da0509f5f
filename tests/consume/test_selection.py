"""The selection of files, and the spans of every block in them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.consume import selection
from reconciler.consume.fetch import fetch
from reconciler.consume.local_sources import NamedSource
from reconciler.consume.selection import FileSpan, PositionSet, file_spans, select_files
from reconciler.content import dagpb, unixfs
from reconciler.content.bounds import LIMITS
from reconciler.content.cid import RAW, hash_block
from reconciler.content.walk import DagMap, walk
from reconciler.errors import DataError
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks
from tests.support.dags import MemoryDag
from tests.support.shapes import Builder


def map_of(dag: MemoryDag) -> DagMap:
    return walk(dag.layout.root, dag.blocks.__getitem__)


def bomb(levels: int, links: int) -> MemoryDag:
    """A file that claims `links` to the power of `levels` leaves of one byte, with one block per level."""
    build = Builder("bomb")
    cid, size = hash_block(RAW, b"x"), 1
    build.blocks[cid] = b"x"
    for _ in range(levels):
        block = dagpb.encode([dagpb.PbLink(b"", cid, size)] * links, unixfs.file([size] * links))
        cid, size = hash_block(0x70, block), size * links
        build.blocks[cid] = block
    return MemoryDag(cid, build.blocks)


def test_a_block_has_all_its_spans(dag: MemoryDag) -> None:
    found = file_spans(select_files(map_of(dag)))
    names = [node.path for node in select_files(map_of(dag)).files]
    twice = [spans for spans in found.values() if len(spans) == 2]
    assert len(twice) == 6
    assert {names[span.file] for span in twice[0]} == {"twice.bin", "sub/twice.bin"}
    first = found[next(iter(found))]
    assert first == (FileSpan(first[0].file, 0, first[0].size),)
    assert len(found) == len(list(found)) == 70 + 6 + 1 + 1
    with pytest.raises(KeyError):
        found[0]  # the root is not a leaf
    with pytest.raises(KeyError):
        found[10_000]


def test_a_file_with_too_many_leaves_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "_MOST_LEAVES", 5000)
    dag = bomb(5, 1000)
    with pytest.raises(DataError, match="more than 5000 leaves"):
        fetch(dag.layout.root, tmp_path / "d", [NamedSource("memory", DagBlocks(dag))], QUIET, name="it")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_span_needs_at_most_sixty_bytes_of_memory() -> None:
    every = select_files(map_of(bomb(2, 200)))
    tracemalloc.start()
    found = file_spans(every)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found[len(every.map.layout) - 1]) == 40_000
    assert size < 40_000 * 60
    assert LIMITS.blocks * 60 < 256 << 20


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20))))
def test_a_set_of_positions_is_a_set(steps: list[tuple[bool, int]]) -> None:
    found, plain = PositionSet(21, [3, 5]), {3, 5}
    for adds, position in steps:
        for each in (found, plain):
            each.add(position) if adds else each.discard(position)
    assert (sorted(found), len(found)) == (sorted(plain), len(plain))
    assert all((position in found) == (position in plain) for position in range(-1, 25))
