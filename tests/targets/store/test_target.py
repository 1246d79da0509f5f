"""Changes to a store: several writers, full disks, foreign directories, and files that must not change."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock
import pytest

from reconciler.errors import BlockUnavailableError, DataError, LockedError, PeerError, SourceChangedError
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.store import StoreTarget, staging
from tests.conformance.targets import FOREIGN_LABEL, LABEL, MARK, OTHER_LABEL
from tests.support.dags import memory_dag
from tests.support.shapes import Failing, bundle, large_file, single_leaf
from tests.support.store_files import canonical, car_path, contents, harm, snapshot

MIB = 1 << 20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(directory: Path) -> StoreTarget:
    return StoreTarget("store", directory)


def state(store: StoreTarget, dag, check: Check = Check.FULL) -> State:
    root = dag.layout.root
    return store.observe([Expected(root, (LABEL,))], check, MARK, QUIET).observations[root].state


def in_children(works: Sequence[Callable[[], object]]) -> list[int]:
    """Run each work in a process of its own, all at once; their exit codes."""
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


# -- files on the disk -----------------------------------------------------------------------------------


def test_the_car_is_the_canonical_one(store: StoreTarget, directory: Path) -> None:
    """Of several spans, with leaves of the profile's size."""
    dag = memory_dag({"model.bin": os.urandom(7 * MIB + 5), "config.json": b"{}"})
    store.publish(dag, LABEL, QUIET)
    assert car_path(directory, dag).read_bytes() == canonical(dag)


def test_files_are_as_shared_as_the_umask_says(store: StoreTarget, directory: Path) -> None:
    dag = bundle("x")
    before = os.umask(0o027)
    try:
        store.publish(dag, LABEL, QUIET)
    finally:
        os.umask(before)
    assert stat.S_IMODE(car_path(directory, dag).stat().st_mode) == 0o640


def test_nothing_is_left_beside_what_the_format_names(store: StoreTarget, directory: Path) -> None:
    dag = bundle("x")
    store.publish(dag, LABEL, QUIET)
    root = dag.layout.root
    assert set(contents(directory)) == {
        "store.json", f"cars/{root}.car", f"cars/{root}.idx", f"labels/{root}.json"
    }  # fmt: skip
    store.unpin(root, LABEL)
    assert set(contents(directory)) == {"store.json"}


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["observe", "publish", "unpin"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"store": "reconciler", "format": 2}', "has format 2; this version reads 1"),
        ('{"store": "somebody", "format": 1}', "another kind of store"),
        ('{"store": "reconciler", "format": true}', "another kind of store"),
        ("", "is damaged"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_another_format_is_refused_and_untouched(
    store: StoreTarget, directory: Path, text: str, words: str, call: str
) -> None:
    dag = single_leaf("x")
    store.publish(dag, LABEL, QUIET)
    (directory / "store.json").write_text(text)
    before = snapshot(directory)
    with pytest.raises(PeerError, match=words):
        if call == "observe":
            store.observe([], Check.QUICK, MARK, QUIET)
        elif call == "publish":
            store.publish(bundle("y"), LABEL, QUIET)
        else:
            store.unpin(dag.layout.root, LABEL)
    assert snapshot(directory) == before


def test_somebody_elses_directory_is_refused_and_untouched(store: StoreTarget, directory: Path) -> None:
    directory.mkdir()
    (directory / "thesis.tex").write_text("years of work")
    for call in (
        lambda: store.publish(bundle("x"), LABEL, QUIET),
        lambda: store.observe([], Check.QUICK, MARK, QUIET),
    ):
        with pytest.raises(PeerError, match=r"'thesis\.tex'") as error:
            call()
        assert error.value.hint
    assert [path.name for path in directory.iterdir()] == ["thesis.tex"]


def test_a_lost_format_file_is_written_again(store: StoreTarget, directory: Path) -> None:
    dag = bundle("x")
    store.publish(dag, LABEL, QUIET)
    (directory / "store.json").unlink()
    assert state(store, dag) is State.HELD
    store.publish(dag, OTHER_LABEL, QUIET)
    assert (directory / "store.json").is_file()


# -- labels --------------------------------------------------------------------------------------------------


def test_the_car_goes_with_its_last_label(store: StoreTarget, directory: Path) -> None:
    dag = bundle("x")
    for label in (LABEL, OTHER_LABEL, FOREIGN_LABEL):
        store.publish(dag, label, QUIET)
    path = car_path(directory, dag)
    inode = path.stat().st_ino
    for label in (LABEL, FOREIGN_LABEL):
        store.unpin(dag.layout.root, label)
        assert path.stat().st_ino == inode
    store.unpin(dag.layout.root, OTHER_LABEL)
    assert not path.exists()


def test_a_root_whose_owners_cannot_be_told_is_kept(store: StoreTarget, directory: Path) -> None:
    dag = bundle("x")
    store.publish(dag, LABEL, QUIET)
    (directory / "labels" / f"{dag.layout.root}.json").write_text("?")
    with pytest.raises(DataError, match="label file is not JSON"):
        store.unpin(dag.layout.root, LABEL)
    assert car_path(directory, dag).exists()


def test_a_lost_car_comes_back_with_the_labels_of_others(store: StoreTarget, directory: Path) -> None:
    dag = bundle("x")
    store.publish(dag, FOREIGN_LABEL, QUIET)
    car_path(directory, dag).unlink()
    store.publish(dag, LABEL, QUIET)
    seen = store.observe([Expected(dag.layout.root, (LABEL,))], Check.FULL, MARK, QUIET)
    assert seen.observations[dag.layout.root].labels == tuple(sorted((LABEL, FOREIGN_LABEL)))


def test_a_damaged_car_gets_no_label_for_nothing(store: StoreTarget, directory: Path) -> None:
    dag = bundle("x")
    store.publish(dag, LABEL, QUIET)
    (directory / "labels" / f"{dag.layout.root}.json").unlink()
    harm(car_path(directory, dag), dag.layout.car_size - 1, b"\0")
    with pytest.raises(BlockUnavailableError, match="damaged"):
        store.relabel(dag.layout.root, LABEL)
    assert state(store, dag) is State.PARTIAL
    with pytest.raises(BlockUnavailableError):
        store.relabel(single_leaf("absent").layout.root, LABEL)


def test_a_complete_car_without_a_label_is_not_written_again(store: StoreTarget, directory: Path) -> None:
    dag = bundle("x")
    store.publish(dag, LABEL, QUIET)
    (directory / "labels" / f"{dag.layout.root}.json").unlink()
    before = car_path(directory, dag).stat()
    assert store.publish(dag, LABEL, QUIET).bytes_sent == 0
    after = car_path(directory, dag).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert state(store, dag) is State.HELD


def test_a_repair_keeps_the_file_and_its_siblings(store: StoreTarget, directory: Path) -> None:
    dag, sibling = large_file("x"), bundle("sibling")
    store.publish(sibling, OTHER_LABEL, QUIET)
    store.publish(dag, LABEL, QUIET)
    path = car_path(directory, dag)
    inode = path.stat().st_ino
    before = snapshot(directory)
    position = len(dag.layout) - 1
    harm(path, dag.layout.data_start(position), b"??")
    delivery = store.repair(dag, (), LABEL, QUIET)
    assert (delivery.blocks_sent, delivery.bytes_sent) == (1, dag.layout.block_size(position))
    assert path.stat().st_ino == inode
    after = snapshot(directory)
    changed = {name for name in before if before[name] != after[name]}
    assert all(str(dag.layout.root) in name for name in changed)
    assert path.read_bytes() == canonical(dag)


# -- disks ---------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_the_first_byte(
    store: StoreTarget, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = Failing(large_file("x"), 0)  # a read would be an error of its own
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 100))
    with pytest.raises(PeerError, match="more bytes; 100 are free"):
        store.publish(dag, LABEL, QUIET)
    assert set(contents(directory)) == {"store.json"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("after", [0, 3])
def test_a_disk_that_fills_up_leaves_nothing(
    store: StoreTarget, directory: Path, monkeypatch: pytest.MonkeyPatch, after: int, code: int
) -> None:
    dag = memory_dag(os.urandom(9 * MIB))
    store.publish(single_leaf("first"), OTHER_LABEL, QUIET)
    before = contents(directory)
    real, calls = os.pwrite, []

    def full(fd: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return real(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(PeerError, match="no space left for the store"):
            store.publish(dag, LABEL, QUIET)
    assert contents(directory) == before
    store.publish(dag, LABEL, QUIET)
    assert state(store, dag) is State.HELD


def test_a_really_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """On a tmpfs of 3 MiB whose size the store cannot see beforehand."""
    code = """
import os, shutil, sys
from pathlib import Path
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget
from tests.support.dags import memory_dag
directory = Path(sys.argv[1])
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40)
store = StoreTarget("store", directory / "store")
store.publish(memory_dag(b"small"), Label("reconciler/suite/small@1.0.0"), QUIET)
try:
    store.publish(memory_dag(os.urandom(6 << 20)), Label("reconciler/suite/large@1.0.0"), QUIET)
except PeerError as error:
    print(error.message.split(" for ")[0], len(list((directory / "store" / "tmp").iterdir())))
"""
    mount = f"mount -t tmpfs -o size=3m none {tmp_path} && exec {sys.executable} - {tmp_path}"
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mount],
        input=code,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    assert done.stdout.strip() == "no space left 0", done.stderr


def test_a_changed_source_leaves_nothing(store: StoreTarget, directory: Path) -> None:
    store.publish(single_leaf("first"), OTHER_LABEL, QUIET)
    before = contents(directory)
    with pytest.raises(SourceChangedError):
        store.publish(Failing(large_file("x"), 700), LABEL, QUIET)
    assert contents(directory) == before


# -- several writers -----------------------------------------------------------------------------------------


def test_a_writer_that_waits_too_long_says_so(directory: Path) -> None:
    store = StoreTarget("store", directory, lock_seconds=0.05)
    dag = bundle("x")
    store.publish(dag, LABEL, QUIET)
    with filelock.FileLock(directory / "lock"):
        with pytest.raises(LockedError, match="being changed by another process"):
            store.publish(bundle("y"), LABEL, QUIET)
        assert state(store, dag) is State.HELD  # readers do not wait


@pytest.mark.parametrize("round_", range(3))
def test_writers_of_the_same_and_of_different_roots_get_along(directory: Path, round_: int) -> None:
    dags = [bundle(f"{round_}{number % 3}") for number in range(6)]
    works = [
        lambda number=number, dag=dag: StoreTarget("store", directory).publish(
            dag, Label(f"{MARK}m@{number}.0.0"), QUIET
        )
        for number, dag in enumerate(dags)
    ]
    assert in_children(works) == [0] * 6
    store = StoreTarget("store", directory)
    assert {state(store, dag) for dag in dags} == {State.HELD}
    assert len(store.observe([], Check.QUICK, MARK, QUIET).owned) == 6
    assert list((directory / "tmp").iterdir()) == []


def test_publishing_and_unpinning_at_once_ends_in_one_of_the_two(directory: Path) -> None:
    dag = bundle("x")
    store = StoreTarget("store", directory)
    for _ in range(5):
        works = [
            lambda: StoreTarget("store", directory).publish(dag, LABEL, QUIET),
            lambda: StoreTarget("store", directory).unpin(dag.layout.root, LABEL),
        ]
        assert in_children(works) == [0, 0]
        assert state(store, dag) in (State.HELD, State.ABSENT)


def test_what_another_living_writer_stages_is_not_swept(directory: Path) -> None:
    StoreTarget("store", directory).publish(bundle("x"), LABEL, QUIET)
    living = staging.stage(directory / "tmp", "living")
    (directory / "tmp" / "dead.0123.partial").write_bytes(b"left over")
    StoreTarget("store", directory).publish(bundle("y"), OTHER_LABEL, QUIET)
    assert list((directory / "tmp").iterdir()) == [living.path]
    with staging.released(living):
        pass
    assert list((directory / "tmp").iterdir()) == []
