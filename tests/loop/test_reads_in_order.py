"""A source that ignores ranges is read in order, from one response as far as possible."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.loop.reads_in_order import ReadsInOrder
from tests.support.memory_source import MemorySource

FILES = {"a": os.urandom(1000), "b": os.urandom(500), "empty": b""}


@given(
    places=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 500), st.integers(0, 500)), max_size=9),
    piece=st.integers(1, 300),
)
def test_any_parts_in_any_order_are_exact(places: list[tuple[str, int, int]], piece: int) -> None:
    source = MemorySource(FILES, piece=piece)
    listed = {file.path: file for file in source.list().files}
    reads = ReadsInOrder(source)
    for path, start, most in places:
        length = min(most, len(FILES[path]) - start)
        assert b"".join(reads.read(listed[path], start, length)) == FILES[path][start : start + length]
    reads.close()


def test_parts_in_order_cost_the_size() -> None:
    source = MemorySource(FILES, piece=70, serves_ranges=False)
    listed = {file.path: file for file in source.list().files}
    reads = ReadsInOrder(source)
    parts = [b"".join(reads.read(listed["a"], start, 100)) for start in range(0, 1000, 100)]
    assert b"".join(parts) == FILES["a"]
    assert (len(source.reads), source.bytes_read) == (1, 1000)
    assert [*reads.read(listed["a"], 0, 70)] == [FILES["a"][:70]]
    assert b"".join(reads.read(listed["a"], 900, 100)) == FILES["a"][900:], "what is between is skipped"
    assert len(source.reads) == 2


def test_a_source_that_ends_early_gives_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource(FILES)
    (file, *_) = source.list().files
    monkeypatch.setattr(source, "read", lambda *_: (piece for piece in [FILES["a"][:300]]))
    assert b"".join(ReadsInOrder(source).read(file, 0, 400)) == FILES["a"][:300]
