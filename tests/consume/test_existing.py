"""A destination with another version is brought to the wanted one; local changes stay, whatever happens."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.consume import fetch as fetching
from reconciler.consume import staging
from reconciler.consume.existing import Released
from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.local_sources import NamedSource
from reconciler.consume.receipt import ReceiptBook
from reconciler.consume.sources import SourcePool, TrackedSource
from reconciler.content.cid import Cid
from reconciler.content.walk import DagMap
from reconciler.errors import BlockUnavailableError, UsageError
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks
from tests.consume.conftest import content, files
from tests.support.dags import MemoryDag, memory_dag

SAME = bytes(range(256)) * 5000
OLD = memory_dag({"model.bin": SAME, "config.json": b"old", "gone": {"x": b"x"}})
NEW = memory_dag({"model.bin": SAME, "config.json": b"new", "sub": {"y": b"y", "copy.bin": SAME}})


def memory(dag: MemoryDag) -> NamedSource:
    return NamedSource("memory", DagBlocks(dag))


def tree(root: Cid) -> DagMap:
    dag = {OLD.layout.root: OLD, NEW.layout.root: NEW}[root]
    return fetching.read_tree(root, SourcePool([TrackedSource(memory(dag))]))


RELEASED = Released((NEW.layout.root, OLD.layout.root), tree)


def run(dag: MemoryDag, destination: Path, **options: object) -> Fetched:
    options = {"released": RELEASED} | options
    return fetch(dag.layout.root, destination, [memory(dag)], QUIET, name="it", **options)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    run(OLD, tmp_path / "d")
    return tmp_path / "d"


def assert_clean(place: Path, dag: MemoryDag) -> None:
    assert files(place) == content(dag)
    assert [path.name for path in place.parent.iterdir()] == [place.name]


@pytest.mark.parametrize("there_and_back", [False, True])
def test_a_directory_is_brought_to_another_version(place: Path, there_and_back: bool) -> None:
    inode = (place / "model.bin").stat().st_ino
    done = run(NEW, place)
    assert_clean(place, NEW)
    assert done.reused == len(SAME)
    assert (place / "model.bin").stat().st_ino == inode, "an unchanged file is not copied"
    assert not done.already
    assert run(NEW, place).already
    if there_and_back:
        run(OLD, place)
        assert_clean(place, OLD)


def test_what_is_unchanged_is_not_fetched_again(place: Path) -> None:
    done = run(NEW, place)
    fetched = sum(source.bytes for source in done.sources)
    assert fetched < 2 * len(SAME)
    again = memory_dag({"model.bin": SAME, "config.json": b"third"})
    done = run(again, place)
    assert sum(source.bytes for source in done.sources) < 1000
    assert_clean(place, again)


@pytest.mark.parametrize("lost", ["config.json", "model.bin", "gone/x"])
@pytest.mark.parametrize("wanted", [OLD, NEW], ids=["same", "newer"])
def test_a_partial_directory_is_completed(place: Path, lost: str, wanted: MemoryDag) -> None:
    (place / lost).unlink()
    run(wanted, place)
    assert_clean(place, wanted)


@pytest.mark.parametrize("size", [0, 1, 100, 1 << 20, (1 << 20) + 7, len(SAME) - 1])
def test_the_beginning_of_a_file_is_kept(tmp_path: Path, size: int) -> None:
    """As another program leaves it when it is interrupted."""
    place = tmp_path / "d"
    place.mkdir()
    (place / "model.bin").write_bytes(SAME[:size])
    (place / "config.json").write_bytes(b"ol")
    done = run(OLD, place, released=Released())
    assert_clean(place, OLD)
    assert done.resumed >= size - size % (1 << 20)
    (place / "config.json").write_bytes(b"ow")
    with pytest.raises(UsageError, match=r"'config\.json' would be lost"):
        run(OLD, place)


CHANGES: dict[str, Callable[[Path], object]] = {
    "config.json": lambda place: (place / "config.json").write_bytes(b"own"),
    "model.bin": lambda place: (place / "model.bin").write_bytes(SAME[:-1] + b"!"),
    "notes.txt": lambda place: (place / "notes.txt").write_bytes(b"mine"),
    ".hidden": lambda place: (place / ".hidden").write_bytes(b"mine"),
    "gone/deep/z": lambda place: ((place / "gone/deep").mkdir(), (place / "gone/deep/z").write_bytes(b"z")),
    "link": lambda place: (place / "link").symlink_to("config.json"),
    "pipe": lambda place: os.mkfifo(place / "pipe"),
    ".git/config": lambda place: ((place / ".git").mkdir(), (place / ".git/config").write_bytes(b"g")),
    "truncated": lambda place: (place / "truncated").write_bytes(SAME[:100]),
}


@pytest.mark.parametrize("changed", CHANGES)
@pytest.mark.parametrize("wanted", [OLD, NEW], ids=["same", "newer"])
def test_local_changes_are_named_and_kept(place: Path, changed: str, wanted: MemoryDag) -> None:
    CHANGES[changed](place)
    before = files(place)
    with pytest.raises(UsageError, match="is not empty") as caught:
        run(wanted, place)
    assert repr(changed) in caught.value.message
    assert "config.json" not in caught.value.message or changed == "config.json"
    assert "new directory" in (caught.value.hint or "")
    assert files(place) == before
    assert os.path.lexists(place / changed)


def test_without_released_trees_the_root_tells_a_whole_version(place: Path) -> None:
    run(NEW, place, released=Released((OLD.layout.root,)))
    assert_clean(place, NEW)
    with pytest.raises(UsageError, match="would be lost"):
        run(OLD, place, released=Released())


def test_a_tree_that_cannot_be_read_is_passed_over(place: Path) -> None:
    def unreadable(root: Cid) -> DagMap:
        raise BlockUnavailableError(f"no source has {root}")

    (place / "notes.txt").write_bytes(b"mine")
    with pytest.raises(UsageError, match="would be lost"):
        run(NEW, place, released=Released(RELEASED.roots, unreadable))


def test_the_permissions_of_the_directory_stay(place: Path) -> None:
    place.chmod(0o750)
    run(NEW, place)
    assert place.stat().st_mode & 0o777 == 0o750


# -- the switch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_without_an_exchange_it_is_refused_before_anything_is_fetched(
    place: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(first: Path, second: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(staging, "exchange", refuse)
    with pytest.raises(UsageError, match="in one step"):
        run(NEW, place)
    assert files(place) == content(OLD)


@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_change_during_the_fetch_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Before the exchange, or at its very moment: then the directories are exchanged back."""
    real, calls = staging.exchange, []

    def exchange(first: Path, second: Path) -> None:
        calls.append(second)
        if second == place and moment == "between" and calls.count(place) == 1:
            (place / "config.json").write_bytes(b"mine")
        real(first, second)

    monkeypatch.setattr(staging, "exchange", exchange)
    if moment == "before":
        finish = staging.Staging.finish

        def changed(self: staging.Staging, *arguments: object) -> None:
            (place / "notes.txt").write_bytes(b"mine")
            finish(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(staging.Staging, "finish", changed)
    with pytest.raises(UsageError, match="changed during the fetch"):
        run(NEW, place)
    assert b"mine" in files(place).values()
    assert files(place)["model.bin"] == SAME


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("after", [False, True], ids=["before the exchange", "after it"])
def test_a_kill_at_the_switch_leaves_the_old_or_the_new_directory(
    place: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    real = staging.exchange

    def exchange(first: Path, second: Path) -> None:
        if second == place and not after:
            raise Killed
        real(first, second)
        if second == place:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(staging, "exchange", exchange)
        run(NEW, place)
    assert files(place) == content(NEW if after else OLD)
    done = run(NEW, place)
    assert done.already is after
    assert_clean(place, NEW)


# -- receipts ------------------------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path_factory: pytest.TempPathFactory) -> ReceiptBook:
    return ReceiptBook(tmp_path_factory.mktemp("receipts"))


def test_a_receipt_recognizes_a_directory_without_reading_it(tmp_path: Path, book: ReceiptBook) -> None:
    place = tmp_path / "d"
    run(OLD, place, receipts=book)
    (place / "model.bin").chmod(0o644)
    first = run(OLD, place, receipts=book)
    assert (first.already, first.by_receipt) == (True, False), "the ctime is another one"
    reads = OLD.reads
    again = run(OLD, place, receipts=book)
    assert (again.already, again.by_receipt, again.size, again.files) == (True, True, first.size, 3)
    assert OLD.reads == reads, "not even the tree is read"
    full = run(OLD, place, receipts=book, trust_receipt=False)
    assert (full.already, full.by_receipt) == (True, False)
    assert not run(NEW, place, receipts=book).by_receipt
    assert run(NEW, place, receipts=book).by_receipt


TOUCHES: dict[str, Callable[[Path], object]] = {
    "same bytes again": lambda place: (place / "config.json").write_bytes(b"old"),
    "same length": lambda place: (place / "config.json").write_bytes(b"own"),
    "same length and mtime": lambda place: rewrite(place / "config.json", b"own"),
    "another inode": lambda place: replace(place / "config.json", b"own"),
    "a new file": lambda place: (place / "new").write_bytes(b""),
    "a lost file": lambda place: (place / "config.json").unlink(),
    "a link": lambda place: (place / "link").symlink_to("config.json"),
}


def rewrite(path: Path, data: bytes) -> None:
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path: Path, data: bytes) -> None:
    status = path.stat()
    path.with_name("other").write_bytes(data)
    os.utime(path.with_name("other"), ns=(status.st_atime_ns, status.st_mtime_ns))
    path.with_name("other").rename(path)


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_a_receipt_is_void_after_any_change(
    tmp_path: Path, book: ReceiptBook, touch: Callable[[Path], object]
) -> None:
    """Also at once after it was written, when the clock has hardly moved."""
    for attempt in range(5):
        place = tmp_path / str(attempt)
        run(OLD, place, receipts=book)
        touch(place)
        try:
            done = run(OLD, place, receipts=book)
        except UsageError as error:
            assert "would be lost" in error.message
        else:
            assert not done.by_receipt
            assert files(place) == content(OLD)


def test_a_receipt_is_for_one_selection_and_one_place(tmp_path: Path, book: ReceiptBook) -> None:
    run(OLD, tmp_path / "d", receipts=book, include=["*.json"])
    assert run(OLD, tmp_path / "d", receipts=book, include=["*.json"]).by_receipt
    assert not run(OLD, tmp_path / "d", receipts=book).by_receipt
    (tmp_path / "d").rename(tmp_path / "e")
    assert not run(OLD, tmp_path / "e", receipts=book).by_receipt


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"version": 1, "request": 1}', b"\xff"])
def test_a_damaged_receipt_is_no_receipt(tmp_path: Path, book: ReceiptBook, text: bytes) -> None:
    run(OLD, tmp_path / "d", receipts=book)
    (file,) = book._directory.iterdir()
    file.write_bytes(text)
    done = run(OLD, tmp_path / "d", receipts=book)
    assert (done.already, done.by_receipt) == (True, False)
    assert run(OLD, tmp_path / "d", receipts=book).by_receipt
