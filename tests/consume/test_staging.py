"""Staging: planted files and links are never followed, and mount points are filled in place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reconciler.consume import mount_point, staging
from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.local_sources import NamedSource
from reconciler.errors import ReconcilerError, UsageError
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks
from tests.consume.conftest import content, files
from tests.support.dags import MemoryDag, Source, memory_dag
from tests.support.shapes import Without
from tests.support.small_disk import SmallDisk, small_disk


def run(dag: MemoryDag | Without, destination: Path) -> Fetched:
    return fetch(dag.layout.root, destination, [NamedSource("memory", DagBlocks(dag))], QUIET, name="it")


def stage(dag: MemoryDag, parent: Path) -> Path:
    return parent / f".d.fetch-{str(dag.layout.root)[-16:]}"


def test_a_staging_directory_that_is_a_link_is_not_followed(dag: MemoryDag, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/kept").touch()
    stage(dag, tmp_path).symlink_to("theirs")
    with pytest.raises(ReconcilerError, match="was not created by you"):
        run(dag, tmp_path / "d")
    assert files(tmp_path / "theirs") == {"kept": b""}
    assert not (tmp_path / "d").exists()


def test_a_file_in_the_place_of_the_staging_directory_stays(dag: MemoryDag, tmp_path: Path) -> None:
    stage(dag, tmp_path).write_text("theirs")
    with pytest.raises(ReconcilerError, match="was not created by you"):
        run(dag, tmp_path / "d")
    assert stage(dag, tmp_path).read_text() == "theirs"


def test_another_users_directory_is_not_used(dag: MemoryDag, tmp_path: Path) -> None:
    """As in /tmp, where another user may create it first, and later change verified files in it."""
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    stage(dag, tmp_path).mkdir(mode=0o777)
    os.chown(stage(dag, tmp_path), 12345, -1)
    with pytest.raises(ReconcilerError, match="was not created by you"):
        run(dag, tmp_path / "d")
    assert os.listdir(tmp_path) == [stage(dag, tmp_path).name]


def test_a_file_server_that_maps_users_is_not_taken_for_another_user(
    dag: MemoryDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging.os, "geteuid", lambda: 54321)
    stage(dag, tmp_path).mkdir(mode=0o700)
    run(dag, tmp_path / "d")
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("kind", ["file", "link"])
@pytest.mark.parametrize("name", ["content", "content/sub"])
def test_a_file_or_link_in_the_place_of_a_directory_is_removed(
    dag: MemoryDag, tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / "outside").mkdir()
    place = stage(dag, tmp_path) / name
    place.parent.mkdir(parents=True)
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path / "outside")
    run(dag, tmp_path / "d")
    assert files(tmp_path / "d") == content(dag)
    assert list((tmp_path / "outside").iterdir()) == []


def test_links_in_the_place_of_files_are_never_written_through(dag: MemoryDag, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(dag.layout.size))
    place = stage(dag, tmp_path) / "content"
    place.mkdir(parents=True)
    (place / "model.bin").symlink_to(outside)
    os.link(outside, place / "twice.bin")
    (place / "empty").mkdir()
    run(dag, tmp_path / "d")
    assert files(tmp_path / "d") == content(dag)
    assert outside.read_bytes() == bytes(dag.layout.size)
    assert not (tmp_path / "d/model.bin").is_symlink()


def test_the_current_directory_is_not_replaced(
    dag: MemoryDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell would stay in the old directory, which is empty and has no path any more."""
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path / "d")
    with pytest.raises(UsageError, match="is the current directory"):
        run(dag, tmp_path / "d")
    assert os.listdir(tmp_path) == ["d"]


def test_a_parent_that_cannot_be_written_is_an_error(dag: MemoryDag, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReconcilerError, match=r"cannot write .*: (File exists|Not a directory)") as caught:
        run(dag, tmp_path / "file/d")
    assert caught.value.hint == "choose a writable destination"


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A mounted file system of 8 MiB; needs root."""
    with small_disk(tmp_path / "volume", 8) as disk:
        yield disk.path  # type: ignore[misc]


def test_a_mount_point_is_filled_in_place(dag: MemoryDag, mounted: Path) -> None:
    (mounted / "lost+found").mkdir()
    assert not run(dag, mounted).already
    assert files(mounted) == content(dag)
    assert sorted(os.listdir(mounted)) == ["empty", "lost+found", "model.bin", "sub", "twice.bin"]
    assert run(dag, mounted).already
    (mounted / ".volume.fetch-ofanotherroot").mkdir()
    assert run(dag, mounted).already, "the staging directory of another version is ignored"
    assert os.listdir(mounted.parent) == ["volume"]
    run(dag, mounted / "lost+found/../new")
    assert files(mounted / "new") == content(dag)


def test_other_content_of_a_mount_point_is_not_changed(dag: MemoryDag, mounted: Path) -> None:
    (mounted / "model.bin").write_text("theirs")
    (mounted / "other").mkdir()
    with pytest.raises(UsageError, match=r"is not empty: it has 'model.bin'"):
        run(dag, mounted)
    assert files(mounted) == {"model.bin": b"theirs"}
    assert sorted(os.listdir(mounted)) == ["model.bin", "other"]


@pytest.mark.parametrize("moved", [0, 1, 2, 3, 4])
def test_the_next_run_recovers_from_a_kill_while_a_mount_point_is_filled(
    dag: MemoryDag, mounted: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    real, done = Path.rename, 0

    def rename(self: Path, target: Path) -> Path:
        nonlocal done
        if done == moved and target.parent == mounted:
            raise KeyboardInterrupt
        done += target.parent == mounted
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        if moved == 4:
            patch.setattr(staging.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(dag, mounted)
    dag.reads = 0
    done_again = run(dag, mounted)
    assert done_again.already or done_again.resumed == done_again.size
    assert files(mounted) == content(dag)
    assert sorted(os.listdir(mounted)) == ["empty", "model.bin", "sub", "twice.bin"]


def test_a_directory_mounted_onto_another_of_the_same_disk_is_a_mount_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    assert not mount_point.is_mount_point(place)
    mounts = tmp_path / "mountinfo"
    name = os.fsencode(os.path.realpath(place)).replace(b" ", rb"\040")
    mounts.write_bytes(b"1 2 8:1 / / rw - ext4 /dev/a rw\n36 35 8:1 /x " + name + b" rw - ext4 /dev/a rw\n")
    monkeypatch.setattr(mount_point, "_MOUNTS", mounts)
    assert mount_point.is_mount_point(place)
    (tmp_path / "link").symlink_to(tmp_path)
    assert mount_point.is_mount_point(tmp_path / "link/a b")
    (tmp_path / "other").symlink_to(place)
    assert not mount_point.is_mount_point(tmp_path / "other"), "a link to it is not a mount point"


def test_a_full_disk_is_an_error_and_a_later_run_resumes(tmp_path: Path) -> None:
    from tests.support.shapes import Builder

    build = Builder("full")
    dag = build.dag(build.directory("", [build.file("model.bin", 40, 1 << 16)]))
    with small_disk(tmp_path / "disk", 1) as disk:
        _fills(dag, disk)


def _fills(dag: MemoryDag, disk: SmallDisk) -> None:
    with pytest.raises(ReconcilerError, match="not enough space"):
        run(dag, disk.path / "d")
    with pytest.MonkeyPatch.context() as patch:  # free space is only an estimate: quotas, other writers
        patch.setattr("reconciler.consume.fetch.check_space", lambda *_: None)
        with pytest.raises(ReconcilerError, match=r"cannot write .*: No space left") as caught:
            run(dag, disk.path / "d")
    assert caught.value.hint is not None and "when the disk can be written" in caught.value.hint
    assert not (disk.path / "d").exists()
    disk.grow(8)
    done = run(dag, disk.path / "d")
    assert done.resumed > 0
    assert files(disk.path / "d") == content(dag)
    assert stat.S_IMODE((disk.path / "d").stat().st_mode) & 0o700 == 0o700


TWINS = [
    {"Model.bin": b"1", "model.bin": b"2"},
    {"caf\u00e9": b"1", "cafe\u0301": b"2"},
    {"D": {"x": b"1"}, "d": {"x": b"2"}},
    {"stra\u00dfe": b"1", "STRASSE": b"2", "x": b"3"},
]


@pytest.mark.parametrize("source", TWINS)
def test_names_that_are_one_elsewhere_are_fetched_where_both_fit(source: Source, tmp_path: Path) -> None:
    run(memory_dag(source), tmp_path / "d")
    assert len(files(tmp_path / "d")) == len(source)


@pytest.mark.parametrize("source", TWINS)
def test_names_that_are_one_here_are_refused_before_a_byte_is_fetched(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "holds_each", lambda directory, names: False)
    with pytest.raises(UsageError, match="which cannot hold both") as caught:
        run(memory_dag(source), tmp_path / "d")
    assert "--exclude" in (caught.value.hint or "")
    assert not (tmp_path / "d").exists()


def test_one_of_two_names_is_fetched_where_they_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "holds_each", lambda directory, names: False)
    dag = memory_dag(TWINS[0])
    origin = [NamedSource("memory", DagBlocks(dag))]
    fetch(dag.layout.root, tmp_path / "d", origin, QUIET, name="it", exclude=["Model.bin"])
    assert files(tmp_path / "d") == {"model.bin": b"2"}


def test_the_probe_counts_the_names_that_a_file_system_holds(tmp_path: Path) -> None:
    assert staging.holds_each(tmp_path, ["a", "A"])
    assert not staging.holds_each(tmp_path, ["a", "a"])
    assert not list(tmp_path.iterdir())
