"""A fetch whose files could not be flushed fails, and the next one fetches these again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.consume import staging
from reconciler.consume.content_cache import ContentCache
from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.local_sources import NamedSource
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
