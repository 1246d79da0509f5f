"""What the disk lost, according to a flush that failed, is never used by the next run."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.content import background_flush
from reconciler.content.dag import Block
from reconciler.content.part_dag import PartDag
from reconciler.errors import PeerError
from reconciler.index.part import Part
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget, staging
from tests.conformance.targets import LABEL, leaves_of
from tests.support.dags import MemoryDag
from tests.support.lost_pages import LostPages
from tests.support.shapes import bundle
from tests.support.store_files import canonical, car_path, harm

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> StoreTarget:
    return StoreTarget("store", tmp_path)


@pytest.mark.parametrize("when", ["while leaves arrive", "when it is abandoned", "at the end", "a part"])
def test_a_session_whose_file_could_not_be_flushed_is_not_continued(
    store: StoreTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    dag = bundle("lost")
    leaves = leaves_of(dag)
    part = PartDag(KEY, {leaf.position: Block(leaf.cid, len(leaf.data)) for leaf in leaves}, dag.read)
    session = store.ingest(dag.layout, LABEL, KEY)
    session.put(leaves[:2])
    session.keep(part, Part(1, 2), QUIET)
    disk = LostPages(monkeypatch, "ingest-")
    if when in ("while leaves arrive", "when it is abandoned"):
        monkeypatch.setattr(background_flush, "INTERVAL", 1)
    session = store.ingest(dag.layout, LABEL, KEY)
    session.put(leaves)
    if when == "when it is abandoned":
        session.abandon()
    else:
        with pytest.raises(PeerError, match="Input/output error") as caught:
            session.keep(part, Part(2, 2), QUIET) if when == "a part" else session.finish(dag, QUIET)
        assert "run again" in str(caught.value.hint)
    assert disk.has_failed
    assert not list(tmp_path.glob("tmp/ingest-*")), "neither the file nor notes about its parts"
    assert store.parts(LABEL, KEY) == frozenset()
    again = store.ingest(dag.layout, LABEL, KEY)
    assert all(again.held(leaf.position, leaf.cid) is None for leaf in leaves)
    again.finish(dag, QUIET)
    disk.evict(car_path(tmp_path, dag))
    assert car_path(tmp_path, dag).read_bytes() == canonical(dag)


def test_notes_about_parts_of_a_file_that_is_gone_count_for_nothing(tmp_path: Path) -> None:
    """A run may be killed after it removed the file, and before it removed these."""
    staged = staging.stage_resumable(tmp_path, KEY)
    staging.mark_part(staged, Part(1, 2))
    staged.path.unlink()
    staging.stage_resumable(tmp_path, KEY)
    assert staging.kept_parts(tmp_path, KEY) == frozenset()


def publish_damaged(store: StoreTarget, directory: Path) -> tuple[MemoryDag, Path]:
    """Publish a version, and damage a leaf in its CAR."""
    dag = bundle("lost")
    store.publish(dag, LABEL, QUIET)
    car = car_path(directory, dag)
    harm(car, dag.layout.data_start(1), b"\xff\xff")
    return dag, car


def test_a_repair_that_could_not_be_flushed_is_made_again(
    store: StoreTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag, car = publish_damaged(store, tmp_path)
    disk = LostPages(monkeypatch, ".car", is_due=lambda: car.read_bytes() == canonical(dag))
    disk.wrote(car)
    with pytest.raises(PeerError, match="Input/output error"):
        store.repair(dag, (), LABEL, QUIET)
    store.repair(dag, (), LABEL, QUIET)
    disk.evict(car)
    assert car.read_bytes() == canonical(dag)


def test_what_an_interrupted_repair_left_in_memory_is_flushed_before_it_counts(
    store: StoreTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag, car = publish_damaged(store, tmp_path)
    disk = LostPages(monkeypatch, ".car")
    disk.wrote(car)
    car.write_bytes(canonical(dag))  # and the process was killed
    with pytest.raises(PeerError, match="Input/output error"):
        store.repair(dag, (), LABEL, QUIET)
    store.repair(dag, (), LABEL, QUIET)
    disk.evict(car)
    assert car.read_bytes() == canonical(dag)
