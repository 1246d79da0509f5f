"""The content cache is optional: it may vanish, change or become unreadable at any moment of a fetch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.consume import fetch as fetching
from reconciler.consume.content_cache import ContentCache
from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.local_sources import NamedSource
from reconciler.content.cid import Cid
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks
from tests.consume.conftest import content, files
from tests.support.dags import MemoryDag


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ContentCache:
    monkeypatch.setattr(fetching, "_CACHED_FROM", 100)
    return ContentCache(tmp_path / "cache")


def run(dag: MemoryDag, destination: Path, cache: ContentCache) -> Fetched:
    source = NamedSource("memory", DagBlocks(dag))
    return fetch(dag.layout.root, destination, [source], QUIET, name="it", caches=[cache])


def vanish(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)


def shorten(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 10)


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("meanwhile", [vanish, change, shorten, become_a_link])
def test_a_cached_file_that_changes_after_it_was_found_is_not_used(
    dag: MemoryDag, tmp_path: Path, cache: ContentCache, meanwhile: Callable[[Path], None]
) -> None:
    """As when another process removes it or writes to it at that moment."""
    run(dag, tmp_path / "first", cache)

    class Racing(ContentCache):
        def find(self, cid: Cid, size: int) -> Path | None:
            found = super().find(cid, size)
            if found is not None:
                meanwhile(found)
            return found

    done = run(dag, tmp_path / "second", Racing(tmp_path / "cache"))
    assert files(tmp_path / "second") == content(dag)
    assert done.cached == 0
    assert not any(path.is_symlink() for path in (tmp_path / "second").rglob("*"))


def test_an_unreadable_cache_is_ignored(
    dag: MemoryDag, tmp_path: Path, cache: ContentCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(dag, tmp_path / "first", cache)
    closed = tmp_path / "cache/files"

    def deny(path: Path, *arguments: object, **options: object) -> os.stat_result:
        if path.is_relative_to(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    real = Path.stat
    monkeypatch.setattr(Path, "stat", deny)
    done = run(dag, tmp_path / "second", cache)
    monkeypatch.undo()
    assert (done.cached, files(tmp_path / "second")) == (0, content(dag))


def test_a_damaged_file_that_cannot_be_removed_is_ignored(
    dag: MemoryDag, tmp_path: Path, cache: ContentCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(dag, tmp_path / "first", cache)
    for _, path in cache:
        change(path)
    real = Path.unlink

    def deny(path: Path, missing_ok: bool = False) -> None:
        if path.is_relative_to(tmp_path / "cache/files"):
            raise PermissionError(13, "Permission denied", str(path))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", deny)
    done = run(dag, tmp_path / "second", cache)
    assert (done.cached, files(tmp_path / "second")) == (0, content(dag))


def test_a_cache_path_that_is_a_file_or_in_one_is_ignored(dag: MemoryDag, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, place in (("one", "file"), ("two", "file/below")):
        run(dag, tmp_path / name, ContentCache(tmp_path / place))
        assert files(tmp_path / name) == content(dag)
