from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content import unixfs
from reconciler.content import unpack as unpack_module
from reconciler.content.car_dag import open_car
from reconciler.content.cid import DAG_PB, RAW, of
from reconciler.content.dagpb import Link, encode
from reconciler.content.profile import CHUNK_SIZE
from reconciler.content.unpack import unpack
from reconciler.errors import BlockUnavailable, DataError, ReconcilerError, UsageError
from reconciler.progress import QUIET, Quiet
from tests.support.dags import Blocks, MemoryDag, files_under, memory_dag, write_car

SOURCE = {
    "config.json": b"{}",
    "empty": b"",
    "none": {},
    "deep": {"er": {"weights.bin": b"w" * (2 * CHUNK_SIZE + 3)}},
    "ą b": b"unicode",
}
names = st.text("abc.é", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
contents = st.binary(max_size=30) | st.integers(1, 3).map(
    lambda n: os.urandom(64) * (n * CHUNK_SIZE // 64) + b"!"
)
sources = st.recursive(contents, lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=8)


def nothing_but(directory: Path, *expected: str) -> None:
    assert sorted(os.listdir(directory)) == sorted(expected)


@settings(max_examples=30, deadline=None)
@given(sources)
def test_packing_and_unpacking_is_the_identity(tmp_path_factory, source):
    directory = tmp_path_factory.mktemp("identity")
    write_car(directory / "x.car", source)

    with open_car(directory / "x.car", QUIET) as dag:
        unpack(dag, directory / "out", QUIET)

    assert files_under(directory / "out") == source
    nothing_but(directory, "x.car", "out")


def test_missing_parents_are_made(tmp_path):
    unpack(memory_dag(SOURCE), tmp_path / "a" / "b" / "out", QUIET)

    assert files_under(tmp_path / "a" / "b" / "out") == SOURCE


def test_an_empty_directory_is_taken_as_destination(tmp_path):
    (tmp_path / "out").mkdir()

    unpack(memory_dag(SOURCE), tmp_path / "out", QUIET)

    assert files_under(tmp_path / "out") == SOURCE


def test_a_relative_destination_is_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    unpack(memory_dag(SOURCE), Path("out"), QUIET)

    assert files_under(tmp_path / "out") == SOURCE


def test_modes_follow_the_umask_and_nothing_is_executable(tmp_path):
    old = os.umask(0o027)
    try:
        unpack(memory_dag(SOURCE), tmp_path / "out", QUIET)
    finally:
        os.umask(old)

    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out" / "config.json").stat().st_mode & 0o777 == 0o640


def test_a_taken_destination_is_refused_and_untouched_before_any_leaf_is_read(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name, reason in (("full", "not empty"), ("file", "already exists"), ("link", "already exists")):
        dag = memory_dag({"a": b"a"})
        with pytest.raises(UsageError, match=reason):
            unpack(dag, tmp_path / name, QUIET)
        assert dag.reads == 1  # the root

    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    nothing_but(tmp_path, "full", "file", "link")


@pytest.mark.parametrize("destination", ["/", "x/.."])
def test_a_destination_without_a_name_is_refused(destination):
    with pytest.raises(UsageError, match="no name"):
        unpack(memory_dag(SOURCE), Path(destination), QUIET)


def test_a_single_file_does_not_replace_an_empty_directory(tmp_path):
    (tmp_path / "out").mkdir()

    with pytest.raises(UsageError, match="already exists"):
        unpack(memory_dag(b"data"), tmp_path / "out", QUIET)

    nothing_but(tmp_path, "out")


def test_a_single_file_appears_on_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def no_links(source, destination):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(unpack_module.os, "link", no_links)
    unpack(memory_dag(b"data"), tmp_path / "out", QUIET)

    assert (tmp_path / "out").read_bytes() == b"data"
    nothing_but(tmp_path, "out")


def test_symlinks_are_refused_before_anything_is_written(tmp_path):
    link = encode([], unixfs.symlink(b"/etc/passwd"))
    top = encode([Link(b"evil", of(DAG_PB, link), len(link))], unixfs.DIRECTORY)
    dag = MemoryDag(of(DAG_PB, top), {of(DAG_PB, top): top, of(DAG_PB, link): link})

    with pytest.raises(DataError, match="'evil' is a symlink"):
        unpack(dag, tmp_path / "out", QUIET)

    nothing_but(tmp_path)


class Failing(MemoryDag):
    """Gives every block but one."""

    def __init__(self, source, leaf: bytes, failure) -> None:
        packed = Blocks()
        super().__init__(packed.pack(source).cid, packed.blocks)
        self.leaf = of(RAW, leaf)
        self.failure = failure

    def read(self, position):
        if self.layout.cid(position) == self.leaf:
            return self.failure()
        return super().read(position)


def unavailable():
    raise BlockUnavailable("gone")


@pytest.mark.parametrize(("failure", "kind"), [(unavailable, BlockUnavailable), (lambda: b"{ }", DataError)])
def test_a_leaf_that_fails_leaves_nothing(tmp_path, failure, kind):
    with pytest.raises(kind):
        unpack(Failing(SOURCE, b"{}", failure), tmp_path / "out", QUIET)

    nothing_but(tmp_path)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unpack_module.os, "write", full)
    with pytest.raises(ReconcilerError, match="No space left"):
        unpack(memory_dag(SOURCE), tmp_path / "out", QUIET)

    monkeypatch.undo()
    nothing_but(tmp_path)


def test_more_than_the_disk_has_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(unpack_module.shutil, "disk_usage", lambda path: usage)

    with pytest.raises(ReconcilerError, match="not enough space for 2097164 bytes"):
        unpack(memory_dag(SOURCE), tmp_path / "out", QUIET)

    nothing_but(tmp_path)


@pytest.mark.parametrize("source", [{"a": b"ours"}, b"ours"])
def test_a_destination_that_appears_meanwhile_is_not_replaced(tmp_path, source):
    class Racing(Quiet):
        def task(self, label, total):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").write_text("theirs")
            return super().task(label, total)

    with pytest.raises(ReconcilerError):
        unpack(memory_dag(source), tmp_path / "out", Racing())

    assert files_under(tmp_path / "out") == {"theirs": b"theirs"}
    nothing_but(tmp_path, "out")


def test_progress_counts_every_byte_of_every_file(tmp_path):
    class Counting(Quiet):
        done = 0

        def task(self, label, total):
            self.total = total
            task = super().task(label, total)
            task.advance = lambda amount: setattr(self, "done", self.done + amount)
            return task

    progress = Counting()
    unpack(memory_dag(SOURCE), tmp_path / "out", progress)

    assert progress.done == progress.total == 2 * CHUNK_SIZE + 3 + 2 + 7


KILLED = """
import sys, time
from pathlib import Path
from reconciler.content.unpack import unpack
from reconciler.progress import QUIET
from tests.support.dags import memory_dag

class Slow:
    def __init__(self, dag):
        self.dag, self.layout = dag, dag.layout
    def read(self, position):
        if self.layout.is_leaf(position):
            print("reading", flush=True)
            time.sleep(60)
        return self.dag.read(position)

unpack(Slow(memory_dag({"a": b"a"})), Path(sys.argv[1]), QUIET)
"""


def test_what_a_killed_run_left_goes_with_the_next_one_and_a_running_one_is_left_alone(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        (running,) = [name for name in os.listdir(tmp_path) if name.startswith(".out.partial-")]

        unpack(memory_dag({"b": b"b"}), tmp_path / "out", QUIET)
        nothing_but(tmp_path, "out", running)

        process.send_signal(signal.SIGKILL)
        process.wait()
    shutil.rmtree(tmp_path / "out")

    unpack(memory_dag({"b": b"b"}), tmp_path / "out", QUIET)
    nothing_but(tmp_path, "out")


def test_many_small_files_are_written_in_reasonable_time(tmp_path):
    source = {f"file-{i:05}": b"%d" % i for i in range(2000)}
    started = time.monotonic()

    unpack(memory_dag(source), tmp_path / "out", QUIET)

    assert files_under(tmp_path / "out") == source
    assert time.monotonic() - started < 60
