"""A fetch whose files could not be flushed fails, and the next one fetches these again."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from reconciler.consume import staging
from reconciler.consume.content_cache import ContentCache
from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.local_sources import NamedSource
from reconciler.consume.selection import file_spans, select_files
from reconciler.content.walk import walk
from reconciler.errors import ReconcilerError
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks
from tests.consume.conftest import content, files
from tests.support.dags import MemoryDag
from tests.support.lost_pages import LostPages


def run(dag: MemoryDag, destination: Path, cache: Path) -> Fetched:
    source = NamedSource("memory", DagBlocks(dag))
    return fetch(dag.layout.root, destination, [source], QUIET, name="it", caches=[ContentCache(cache)])


@pytest.mark.parametrize("when", ["while blocks arrive", "at the end"])
def test_a_file_that_the_disk_lost_is_fetched_again(
    dag: MemoryDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    disk = LostPages(monkeypatch, "model.bin")
    if when == "while blocks arrive":
        monkeypatch.setattr(staging, "_WRITE_OUT", 60 << 10)
    with pytest.raises(ReconcilerError, match=r"the disk lost what was written to it") as caught:
        run(dag, tmp_path / "d", tmp_path / "cache")
    assert "run the same command again" in str(caught.value.hint)
    assert not (tmp_path / "d").exists()
    assert not (tmp_path / "cache").exists(), "nothing that may be lost gets into the cache"
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert "model.bin" not in kept
    found = run(dag, tmp_path / "d", tmp_path / "cache")
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        disk.evict(path)
    assert files(tmp_path / "d") == content(dag)
    assert found.resumed < 70 << 10
    assert sorted(os.listdir(tmp_path)) == ["cache", "d"]


def test_a_write_to_a_file_that_was_just_removed_names_the_disk(
    dag: MemoryDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = threading.Event()

    def fail(descriptor: int, path: Path) -> None:
        path.unlink()
        removed.set()
        time.sleep(0.2)  # the write below comes in between
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(staging, "sync_resumable", fail)
    monkeypatch.setattr(staging, "_WRITE_OUT", 1)
    root = dag.layout.root
    selected = select_files(walk(root, dag.blocks.__getitem__, raw_size=len(dag.blocks[root])))
    spans = file_spans(selected)
    number = next(number for number, node in enumerate(selected.files) if node.path == "model.bin")
    first, second, *_ = (leaf.position for leaf in selected.leaves(number))
    with (
        pytest.raises(ReconcilerError, match="the disk lost what was written to it"),
        staging.open_staging(tmp_path / "d", root, selected) as staged,
    ):
        staged.prepare()
        for position in (first, second):
            staged.write(spans[position], position, (dag.blocks[dag.layout.cid(position)],))
            assert removed.wait(60)
