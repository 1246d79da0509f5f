from __future__ import annotations

import threading
from pathlib import Path

import pytest

from reconciler.content import car
from reconciler.content.bundle import bare_bundle
from reconciler.content.dag import Dag
from reconciler.content.identify import identify
from reconciler.content.read_ahead import AHEAD, ReadAhead
from reconciler.errors import SourceChanged
from tests.support.plant import MIB, noise, plant


@pytest.fixture
def dag(tmp_path: Path) -> Dag:
    return identify(bare_bundle(plant(tmp_path / "root", {"w.bin": noise(30 * MIB), "a": b"x"})), cache=None)


class Watched:
    """A Dag that notes which positions were asked for, and by which threads."""

    def __init__(self, dag: Dag) -> None:
        self.layout = dag.layout
        self.positions: list[int] = []
        self.threads: set[int] = set()
        self._dag = dag

    def read(self, position: int) -> bytes:
        self.positions.append(position)
        self.threads.add(threading.get_ident())
        return self._dag.read(position)

    def close(self) -> None:
        raise AssertionError("not ours to close")


def test_the_bytes_are_the_same_and_each_block_is_read_once(dag: Dag) -> None:
    watched = Watched(dag)
    with ReadAhead(watched) as ahead:
        assert b"".join(car.stream(ahead)) == b"".join(car.stream(dag))
    assert sorted(watched.positions) == list(range(len(dag.layout)))
    assert threading.get_ident() not in watched.threads


def test_any_order_gives_the_right_blocks(dag: Dag) -> None:
    with ReadAhead(dag) as ahead:
        for position in (5, 6, 2, 30, 0, 5, 5, len(dag.layout) - 1):
            assert ahead.read(position) == dag.read(position)


def test_no_more_is_read_than_a_few_blocks_ahead(dag: Dag) -> None:
    watched = Watched(dag)
    with ReadAhead(watched) as ahead:
        ahead.read(0)
    assert max(watched.positions) <= AHEAD


def test_an_error_comes_where_the_block_is_due(dag: Dag, tmp_path: Path) -> None:
    with (tmp_path / "root/w.bin").open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"?" * 100)
    bad = next(p for p in range(len(dag.layout)) if dag.layout.is_leaf(p) and not _is_good(dag, p))
    with ReadAhead(dag) as ahead:
        for position in range(bad):
            ahead.read(position)
        with pytest.raises(SourceChanged, match=r"at byte 5242880"):
            ahead.read(bad)
        assert ahead.read(bad + 1) == dag.read(bad + 1)


def _is_good(dag: Dag, position: int) -> bool:
    try:
        dag.read(position)
    except SourceChanged:
        return False
    return True


def test_closing_ends_the_threads_whatever_was_begun(dag: Dag) -> None:
    before = threading.active_count()
    ahead = ReadAhead(dag)
    ahead.read(0)
    ahead.close()
    ahead.close()
    assert threading.active_count() == before
