"""Files are replaced and published atomically, locks exclude other processes, reads and writes are exact."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import fs
from reconciler.errors import FileChangedError, LockedError, ReconcilerError, UsageError
from tests.support.lost_pages import LostPages

OLD, NEW = b"old content", b"new content that is longer"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another process, which reports "ready" and then waits for a line of input."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def holding(path: Path) -> subprocess.Popen[bytes]:
    """Start a process that locks `path` and prints a line, until its standard input closes."""
    code = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'a')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    return process


# --- reading and writing


def test_reads_and_writes_continue_after_a_short_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read, real_write = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: real_read(fd, min(size, 3), offset))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real_write(fd, data[:3], offset))
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, offset: real_write(fd, parts[0][:1], offset))
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        fs.write_at(descriptor, b"0123456789", 5)
        assert fs.read_at(descriptor, 10, 5) == b"0123456789"
        assert fs.read_at(descriptor, 100, 12) == b"789"
        assert fs.read_at(descriptor, 5, 100) == b""
        fs.write_parts_at(descriptor, [b"%d," % number for number in range(1500)], 5)
        assert fs.read_at(descriptor, 9000, 5) == b"".join(b"%d," % number for number in range(1500))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("number", "is_raised"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_sync_a_directory_is_tolerated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_raised: bool
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if is_raised:
        with pytest.raises(OSError, match=os.strerror(number)):
            fs.sync_directory(tmp_path)
    else:
        fs.sync_directory(tmp_path)


# --- replacing


def test_a_replaced_file_has_the_new_bytes_and_the_given_mode(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a longer old content")
    fs.replace_file(file, b"new", mode=0o640)
    assert (file.read_bytes(), mode_of(file)) == (b"new", 0o640)
    fs.replace_file(file, b"again", expected=b"new")
    assert file.read_bytes() == b"again"
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_without_a_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        fs.replace_file(tmp_path / "file", b"x", sync=False)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "file") == 0o640


def test_a_file_with_other_bytes_than_expected_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"theirs")
    with pytest.raises(FileChangedError, match="changed meanwhile"):
        fs.replace_file(file, b"ours", expected=b"old")
    assert file.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["file"]


def test_a_leftover_of_a_killed_writer_is_reused(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_bytes(b"left by a killed run, and longer")
    fs.replace_file(tmp_path / "file", b"x", mode=0o600)
    assert (tmp_path / "file").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["file"]


def test_a_symbolic_link_as_staging_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"kept")
    (tmp_path / ".file.new").symlink_to("other")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        fs.replace_file(tmp_path / "file", b"x")
    assert (tmp_path / "other").read_bytes() == b"kept"


def test_a_second_writer_of_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with holding(tmp_path / ".file.new") as process:
        with pytest.raises(LockedError, match="another process is writing"):
            fs.replace_file(file, b"x")
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    fs.replace_file(file, b"x")
    assert file.read_bytes() == b"x"


def test_a_body_that_fails_leaves_the_file_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), fs.staged_file(file) as descriptor:
        fs.write_at(descriptor, b"half", 0)
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "file"
    file.write_bytes(OLD)
    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    with pytest.raises(OSError, match="No space left"):
        fs.replace_file(file, NEW)
    assert file.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


KILLED = """
import sys, time
from pathlib import Path
from reconciler import fs
with fs.staged_file(Path(sys.argv[1])) as descriptor:
    fs.write_at(descriptor, b"x" * 100_000, 0)
    print("ready", flush=True)
    input()
"""


def test_a_killed_writer_leaves_one_staging_file_which_the_next_one_reuses(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(OLD)
    for _ in range(2):
        process = python(KILLED, file)
        with pytest.raises(LockedError, match="another process is writing"):
            fs.replace_file(file, NEW)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert file.read_bytes() == OLD
        assert names(tmp_path) == [".file.new", "file"]
    fs.replace_file(file, NEW)
    assert file.read_bytes() == NEW, "nothing of the longer leftover remains"
    assert names(tmp_path) == ["file"]


def test_a_staging_file_elsewhere_and_without_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    (tmp_path / "staging").mkdir()
    with fs.staged_file(tmp_path / "file", staging=tmp_path / "staging" / "one", sync=False) as descriptor:
        assert names(tmp_path / "staging") == ["one"]
        fs.write_at(descriptor, NEW, 0)
    assert (tmp_path / "file").read_bytes() == NEW
    assert names(tmp_path / "staging") == []
    assert synced == []
    fs.replace_file(tmp_path / "file", OLD)
    assert len(synced) == 2, "the file and its directory"


def test_threads_that_write_the_same_file_leave_one_whole_version(tmp_path: Path) -> None:
    file = tmp_path / "file"
    contents = [bytes([number]) * 50_000 for number in range(8)]
    refused = []

    def write(content: bytes) -> None:
        try:
            fs.replace_file(file, content, sync=False)
        except LockedError as error:
            refused.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() in contents
    assert names(tmp_path) == ["file"]
    assert len(refused) < len(threads)


# --- publishing


def test_a_file_and_a_directory_are_published_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"x")
    fs.publish_atomically(tmp_path / "content", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"x"
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "inner").write_bytes(b"y")
    (tmp_path / "empty").mkdir()
    fs.publish_atomically(tmp_path / "made", tmp_path / "empty")
    assert (tmp_path / "empty" / "inner").read_bytes() == b"y"


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", fail)


@pytest.mark.parametrize("prepare", [lambda _: None, without_links], ids=["hard links", "no hard links"])
def test_publishing_a_file_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[pytest.MonkeyPatch], None]
) -> None:
    prepare(monkeypatch)
    (tmp_path / "content").write_bytes(b"ours")
    (tmp_path / "file").write_bytes(b"theirs")
    with pytest.raises(UsageError, match="already exists"):
        fs.publish_atomically(tmp_path / "content", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"theirs"
    fs.publish_atomically(tmp_path / "content", tmp_path / "another")
    assert (tmp_path / "another").read_bytes() == b"ours"


def test_publishing_a_directory_never_overwrites(tmp_path: Path) -> None:
    for name in ("content", "taken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inner").write_text(name)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        fs.publish_atomically(tmp_path / "content", tmp_path / "taken")
    assert (tmp_path / "taken" / "inner").read_text() == "taken"


def test_a_destination_is_free_when_it_is_missing_or_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "link").symlink_to("empty")
    for single_file in (False, True):
        fs.check_free(tmp_path / "missing", single_file=single_file)
    fs.check_free(tmp_path / "empty", single_file=False)
    for name, single_file in (("empty", True), ("full", False), ("full/file", False), ("link", False)):
        with pytest.raises(UsageError, match=r"already exists|is not empty"):
            fs.check_free(tmp_path / name, single_file=single_file)


def test_too_little_space_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    fs.check_space(tmp_path, 1)
    with pytest.raises(ReconcilerError, match=rf"not enough space for {1 << 80} bytes: .* has \d+ free"):
        fs.check_space(tmp_path, 1 << 80)


# --- locks


def test_a_lock_file_is_exclusive_and_ends_with_its_process(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with holding(file) as process:
        with (
            pytest.raises(LockedError, match="busy since today"),
            fs.locked(file, lambda: "busy since today", hint="wait"),
        ):
            pytest.fail("the lock is not exclusive")
        process.kill()
        process.wait()
    with fs.locked(file, "busy", hint="wait"):
        pass


def test_a_directory_is_locked_once_and_only_while_it_exists(tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    assert fs.lock_directory(directory) is None
    directory.mkdir()
    (tmp_path / "link").symlink_to(directory)
    assert fs.lock_directory(tmp_path / "link") is None
    descriptor = fs.lock_directory(directory)
    assert descriptor is not None
    assert fs.lock_directory(directory) is None
    os.close(descriptor)
    again = fs.lock_directory(directory)
    assert again is not None
    os.close(again)


def test_a_directory_that_is_removed_while_it_is_locked_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    flock = fcntl.flock

    def remove_first(descriptor: int, operation: int) -> None:
        directory.rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    assert fs.lock_directory(directory) is None


def test_a_private_file_that_cannot_be_flushed_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LostPages(monkeypatch, "key")
    with pytest.raises(OSError, match="Input/output error"):
        fs.create_private_file(tmp_path / "key", b"secret")
    assert os.listdir(tmp_path) == []
    fs.create_private_file(tmp_path / "key", b"secret")
    assert (tmp_path / "key").read_bytes() == b"secret"
