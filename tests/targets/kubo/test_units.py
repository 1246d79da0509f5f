"""What a node may add as a file, and how streams are filled with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.cid import RAW, Cid
from reconciler.targets.kubo import units
from reconciler.targets.kubo.units import AddUnit, choose_units, find_units
from tests.support.dags import Blocks, MemoryDag
from tests.support.plant import MIB, noise
from tests.support.shapes import Builder

GAP = units._SMALLEST


def dag_of(data: bytes) -> MemoryDag:
    blocks = Blocks()
    root = blocks.pack({"a": data, "b": b"small"})
    return MemoryDag(root.cid, blocks.blocks)


def test_a_file_of_the_profile_is_a_unit() -> None:
    dag = dag_of(noise(17 * MIB + 5))
    (unit,) = find_units(dag, range(len(dag.layout)))
    assert b"".join(map(dag.read, unit.leaves)) == noise(17 * MIB + 5)
    assert dag.layout.cid(unit.position) == unit.cid
    assert list(find_units(dag, [each for each in range(len(dag.layout)) if each != unit.leaves[3]])) == []


def test_repeated_small_and_foreign_files_are_not() -> None:
    """Files that repeat a leaf would be sent twice, other chunks would give other blocks."""
    for data in (bytes(20 * MIB), noise(3 * MIB)):
        dag = dag_of(data)
        assert list(find_units(dag, range(len(dag.layout)))) == []
    build = Builder("foreign")
    foreign = build.dag(build.file("weights", 40, MIB // 2))
    assert list(find_units(foreign, range(len(foreign.layout)))) == []


@given(
    st.lists(st.integers(16, 1024), max_size=40),
    st.integers(0, 3000),
    st.integers(2, 8),
)
def test_no_stream_is_idle_while_another_adds(sizes: list[int], rest: int, streams: int) -> None:
    """What is left for CARs fills the gaps between the streams, but for one small unit."""
    given_units = [
        AddUnit(Cid(RAW, number.to_bytes(32, "big")), number, (), size * MIB)
        for number, size in enumerate(sizes)
    ]
    chosen = choose_units(given_units, rest * MIB, streams)
    left = rest * MIB + sum(unit.size for unit in given_units) - sum(unit.size for unit in chosen)
    loads = [0] * streams
    for unit in chosen:
        loads[loads.index(min(loads))] += unit.size
    assert sum(max(loads) - load for load in loads) <= left + GAP


def test_two_equal_units_are_both_added_and_a_lone_one_is_not() -> None:
    unit = AddUnit(Cid(RAW, bytes(32)), 0, (), 1 << 30)
    assert choose_units([unit, unit], 0, 2) == [unit, unit]
    assert choose_units([unit], 0, 2) == []
    assert len(choose_units([unit, unit, unit], 0, 2)) == 2
