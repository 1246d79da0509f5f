"""Blocks of a store by their CIDs, hashed when they are read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from reconciler.content.cid import RAW, hash_block
from reconciler.errors import BlockUnavailableError, PeerError
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget, stored_blocks
from reconciler.targets.store.stored_blocks import StoredBlocks
from tests.support.dags import MemoryDag, memory_dag
from tests.support.store_files import car_path, harm

LABEL = Label("reconciler/acme/model@1.0.0")

only_linux = pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="every block is hashed every time here")


@pytest.fixture
def dag() -> MemoryDag:
    return memory_dag({"a": b"first", "b": {"c": b"second"}})


@pytest.fixture
def blocks(tmp_path: Path, dag: MemoryDag) -> StoredBlocks:
    StoreTarget("store", tmp_path).publish(dag, LABEL, QUIET)
    found = StoredBlocks(tmp_path)
    found.refresh()
    return found


def look_again(blocks: StoredBlocks) -> None:
    blocks._refreshed = 0.0
    blocks.refresh()


def test_every_block_is_found_and_no_other(blocks: StoredBlocks, dag: MemoryDag) -> None:
    assert len(blocks) == len(dag.layout)
    assert list(blocks.roots) == [dag.layout.root]
    for block in dag.layout:
        assert blocks.read(block.cid) == dag.blocks[block.cid]
        assert blocks.has(block.cid)
    other = hash_block(RAW, b"other")
    assert blocks.read(other) is None
    assert not blocks.has(other)


def test_two_digests_that_begin_alike_are_kept_apart(
    tmp_path: Path, dag: MemoryDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_blocks, "_key", lambda cid: cid.digest[0] % 2)
    StoreTarget("store", tmp_path).publish(dag, LABEL, QUIET)
    blocks = StoredBlocks(tmp_path)
    blocks.refresh()
    for block in dag.layout:
        assert blocks.read(block.cid) == dag.blocks[block.cid]


def test_a_damaged_block_is_never_returned(blocks: StoredBlocks, dag: MemoryDag, tmp_path: Path) -> None:
    cid = hash_block(RAW, b"second")
    position = dag.layout.find(cid)
    assert position is not None
    harm(car_path(tmp_path, dag), dag.layout.data_start(position), b"S")
    with pytest.raises(BlockUnavailableError, match="damaged"):
        blocks.read(cid)
    assert blocks.read(hash_block(RAW, b"first")) == b"first"


@only_linux
def test_a_hashed_block_counts_as_verified_only_while_its_file_is_unchanged(
    tmp_path: Path, dag: MemoryDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    StoreTarget("store", tmp_path).publish(dag, LABEL, QUIET)
    path = car_path(tmp_path, dag)
    cid = hash_block(RAW, b"second")
    position = dag.layout.find(cid)
    assert position is not None
    blocks = StoredBlocks(tmp_path)
    blocks.refresh()
    hashed = []
    real = type(cid).matches
    monkeypatch.setattr(type(cid), "matches", lambda self, data: hashed.append(1) or real(self, data))
    blocks.read(cid)
    blocks.read(cid)
    assert len(hashed) == 2  # the file is so young that a second change might not show
    long_ago = time.time() - 100
    os.utime(path, (long_ago, long_ago))
    monkeypatch.setattr(stored_blocks, "_RACY_SECONDS", 0.0)
    blocks.read(cid)
    hashed.clear()
    assert blocks.read(cid) == b"second"
    assert hashed == []
    with monkeypatch.context() as patch:
        patch.setattr(stored_blocks, "_from_memory", lambda *_: None)
        blocks.read(cid)
    assert hashed == [1]  # it came from the disk
    harm(path, dag.layout.data_start(position), b"S")
    with pytest.raises(BlockUnavailableError):
        blocks.read(cid)


@only_linux
def test_a_block_is_hashed_again_after_some_minutes(
    blocks: StoredBlocks, dag: MemoryDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage that the disk did by itself changes no time stamp."""
    monkeypatch.setattr(stored_blocks, "_RACY_SECONDS", 0.0)
    cid, path = hash_block(RAW, b"second"), car_path(tmp_path, dag)
    position = dag.layout.find(cid)
    assert position is not None
    blocks.read(cid)
    blocks.read(cid)
    (car,) = blocks._table.cars
    harm(path, dag.layout.data_start(position), b"S")
    status = path.stat()
    seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    car._seen = seen  # as if nothing had been written
    assert blocks.read(cid) == b"Second"
    monkeypatch.setattr(stored_blocks, "_TRUSTED_SECONDS", 0.0)
    with pytest.raises(BlockUnavailableError):
        blocks.read(cid)


def test_a_lost_or_damaged_index_is_made_up_for_by_the_car(
    blocks: StoredBlocks, dag: MemoryDag, tmp_path: Path
) -> None:
    (tmp_path / "cars" / f"{dag.layout.root}.idx").unlink()
    again = StoredBlocks(tmp_path)
    again.refresh()
    assert again.read(hash_block(RAW, b"second")) == b"second"


def test_only_labelled_roots_are_served(dag: MemoryDag, tmp_path: Path) -> None:
    StoreTarget("store", tmp_path).publish(dag, LABEL, QUIET)
    (tmp_path / "labels" / f"{dag.layout.root}.json").unlink()
    blocks = StoredBlocks(tmp_path)
    blocks.refresh()
    assert (len(blocks), dict(blocks.roots)) == (0, {})


def test_the_table_follows_the_store(blocks: StoredBlocks, dag: MemoryDag, tmp_path: Path) -> None:
    target = StoreTarget("store", tmp_path)
    more = memory_dag({"d": b"third"})
    target.publish(more, Label("reconciler/acme/model@2.0.0"), QUIET)
    look_again(blocks)
    assert blocks.read(hash_block(RAW, b"third")) == b"third"
    target.unpin(dag.layout.root, LABEL)
    look_again(blocks)
    assert blocks.read(hash_block(RAW, b"second")) is None


def test_a_directory_that_is_no_store_is_refused_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    blocks = StoredBlocks(tmp_path)
    blocks.refresh()
    assert len(blocks) == 0
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(PeerError, match="is not a store"):
        look_again(blocks)
