"""Several incomplete sources give one complete DAG, or one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailableError, DataError, PeerError, SourceChangedError
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks, MergedDag, gather
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.store import StoreTarget
from tests.conformance.targets import LABEL, MARK
from tests.support.shapes import Failing, Without, bundle, large_file, single_leaf
from tests.support.store_files import car_path, harm


def break_blocks(directory: Path, dag, positions: list[int]) -> None:
    for position in positions:
        offset = dag.layout.data_start(position)
        harm(car_path(directory, dag), offset, bytes((dag.read(position)[0] ^ 1,)))


def test_every_block_comes_from_a_source_that_has_it_undamaged() -> None:
    dag = bundle("merge")
    tree = dag.layout.tree_positions()
    odd = range(1, len(dag.layout), 2)
    even = range(0, len(dag.layout), 2)
    assert set(tree) & set(odd)  # inner nodes are missing on both sides
    assert set(tree) & set(even)
    merged = MergedDag(dag.layout.root, [DagBlocks(Without(dag, odd)), DagBlocks(Without(dag, even))])
    assert list(merged.layout) == list(dag.layout)
    assert [merged.read(i) for i in range(len(dag.layout))] == [dag.read(i) for i in range(len(dag.layout))]


def test_a_block_that_no_source_has_is_named_with_the_reasons() -> None:
    dag = bundle("merge")
    leaf = next(position for position in range(len(dag.layout)) if dag.layout.is_leaf(position))
    merged = MergedDag(dag.layout.root, [DagBlocks(Without(dag, [leaf])), DagBlocks(Without(dag, [leaf]))])
    with pytest.raises(BlockUnavailableError, match=str(dag.layout.cid(leaf))) as error:
        merged.read(leaf)
    assert "is lost" in (error.value.hint or "")


def test_without_its_inner_nodes_there_is_no_dag() -> None:
    dag = bundle("merge")
    with pytest.raises(BlockUnavailableError):
        MergedDag(dag.layout.root, [DagBlocks(Without(dag, [0]))])


def test_a_source_that_lists_other_blocks_is_not_trusted() -> None:
    """The layout follows from the nodes, whatever the source's own layout says."""
    dag, other = bundle("merge"), bundle("other")
    merged = MergedDag(dag.layout.root, [DagBlocks(other), DagBlocks(dag)])
    assert list(merged.layout) == list(dag.layout)


@pytest.mark.parametrize("error", [PeerError("it is down"), SourceChangedError("'x' changed")])
def test_a_source_that_fails_is_passed_over(error: Exception) -> None:
    dag = bundle("merge")
    merged = MergedDag(dag.layout.root, [DagBlocks(Failing(dag, 5, error)), DagBlocks(dag)])
    assert merged.read(len(dag.layout) - 1) == dag.read(len(dag.layout) - 1)


def test_a_peer_that_failed_twice_is_left_alone() -> None:
    class Down:
        calls = 0

        def read_block(self, cid: Cid) -> bytes:
            self.calls += 1
            raise PeerError("it is down")

        def close(self) -> None:
            pass

    dag, down = bundle("merge"), Down()
    merged = MergedDag(dag.layout.root, [down, DagBlocks(dag)])
    for position in range(len(dag.layout)):
        merged.read(position)
    assert down.calls == 2


@pytest.mark.parametrize("shape", [bundle, large_file])
def test_two_half_damaged_stores_heal_each_other(tmp_path: Path, shape) -> None:
    dag = shape("both")
    stores = [StoreTarget(name, tmp_path / name) for name in ("a", "b")]
    for number, store in enumerate(stores):
        store.publish(dag, LABEL, QUIET)
        readable = [i for i in range(len(dag.layout)) if dag.layout.block_size(i)]
        break_blocks(tmp_path / store.name, dag, readable[number::2])
        with pytest.raises(BlockUnavailableError):
            store.dag(dag.layout.root)
    for store in stores:
        donor = gather(dag.layout.root, stores)
        assert store.repair(donor, (), LABEL, QUIET).state is State.HELD
        donor.close()
        seen = store.observe([Expected(dag.layout.root, (LABEL,))], Check.FULL, MARK, QUIET)
        assert seen.observations[dag.layout.root].state is State.HELD


def test_a_store_without_its_index_still_gives_what_is_left(tmp_path: Path) -> None:
    dag = bundle("left")
    store = StoreTarget("a", tmp_path / "a")
    store.publish(dag, LABEL, QUIET)
    car_path(tmp_path / "a", dag).with_suffix(".idx").unlink()
    leaf = next(position for position in range(len(dag.layout)) if dag.layout.is_leaf(position))
    break_blocks(tmp_path / "a", dag, [leaf])
    merged = gather(dag.layout.root, [store])
    assert list(merged.layout) == list(dag.layout)
    with pytest.raises(BlockUnavailableError):
        merged.read(leaf)
    merged.close()


def test_targets_that_have_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(BlockUnavailableError) as error:
        gather(single_leaf("none").layout.root, [StoreTarget("empty", tmp_path / "none")])
    assert "'empty'" in (error.value.hint or "")


def test_nodes_that_make_no_dag_are_an_error() -> None:
    """A dag-pb root that is no UnixFS node."""
    from reconciler.content.cid import DAG_PB, hash_block

    data = b"\x0a\x02\x08\x09"
    root = hash_block(DAG_PB, data)

    class One:
        def read_block(self, cid: Cid) -> bytes:
            return data

        def close(self) -> None:
            pass

    with pytest.raises(DataError):
        MergedDag(root, [One()])
