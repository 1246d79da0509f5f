from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.content import car
from reconciler.content.bundle import bare_bundle
from reconciler.content.dag import Dag
from reconciler.content.export import export
from reconciler.content.identify import identify
from reconciler.errors import LockedError, ReconcilerError, SourceChangedError, UsageError
from tests.support.plant import MIB, noise, plant

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", {"w.bin": noise(12 * MIB + 1), "d/a": b"x"})


@pytest.fixture
def dag(root: Path) -> Dag:
    return identify(bare_bundle(root), cache=None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "model.car"


def test_the_file_is_the_car(dag: Dag, out: Path) -> None:
    export(dag, out)
    assert out.read_bytes() == b"".join(car.stream(dag))
    assert os.listdir(out.parent) == ["model.car"]


def test_an_existing_file_is_never_replaced(dag: Dag, out: Path) -> None:
    out.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists"):
        export(dag, out)
    assert out.read_bytes() == b"precious"


def test_a_link_is_never_followed(dag: Dag, out: Path, tmp_path: Path) -> None:
    out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="exists"):
        export(dag, out)
    staging = out.parent / ".other.car.partial"
    staging.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReconcilerError, match="cannot write"):
        export(dag, out.parent / "other.car")
    assert not (tmp_path / "elsewhere").exists()


def test_a_source_that_changes_during_an_export_leaves_no_file(dag: Dag, root: Path, out: Path) -> None:
    with (root / "w.bin").open("r+b") as file:
        file.seek(11 * MIB)
        file.write(b"?")
    with pytest.raises(SourceChangedError, match=r"'w\.bin'"):
        export(dag, out)
    assert os.listdir(out.parent) == []


def test_a_missing_directory_is_one_clear_error(dag: Dag, tmp_path: Path) -> None:
    with pytest.raises(ReconcilerError, match=r"cannot write .*no such file"):
        export(dag, tmp_path / "none" / "model.car")


def test_a_disk_that_is_too_small_is_an_error_before_any_write(
    dag: Dag, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=dag.layout.car_size - 1))
    with pytest.raises(ReconcilerError, match=f"{dag.layout.car_size} bytes are needed"):
        export(dag, out)
    assert os.listdir(out.parent) == []


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_disk_that_fills_up_leaves_no_file(
    dag: Dag, out: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(ReconcilerError, match="no space for"):
        export(dag, out)
    assert os.listdir(out.parent) == []


def run(script: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", script, *arguments],
        cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


SCRIPT = """
import os, shutil, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from reconciler.content.bundle import bare_bundle
from reconciler.content.export import export
from reconciler.content.identify import identify
from reconciler.errors import ReconcilerError

mount, root = Path(sys.argv[1]), Path(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", mount], check=True)
shutil.disk_usage = lambda _: SimpleNamespace(free=1 << 60)  # another program fills the disk meanwhile
try:
    export(identify(bare_bundle(root), cache=None), mount / "model.car")
except ReconcilerError as error:
    print(error)
print(os.listdir(mount))
"""


def test_a_full_file_system_leaves_no_file(root: Path, tmp_path: Path) -> None:
    namespace = ("unshare", "--user", "--map-root-user", "--mount")
    (tmp_path / "mount").mkdir()
    probe = (*namespace, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "mount"))
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts in a namespace")
    ran = run(SCRIPT, str(tmp_path / "mount"), str(root), before=namespace)
    said, left = ran.stdout.splitlines()
    assert said.startswith("no space for")
    assert left == "[]"


def test_two_exports_to_one_path_do_not_mix(dag: Dag, out: Path) -> None:
    descriptor = os.open(out.parent / ".model.car.partial", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="another process is writing"):
            export(dag, out)
    finally:
        os.close(descriptor)
    export(dag, out)
    assert out.stat().st_size == dag.layout.car_size


KILLED = """
import os, signal, sys
from pathlib import Path
from reconciler.content.bundle import bare_bundle
from reconciler.content.export import export
from reconciler.content.identify import identify

calls, real = int(sys.argv[3]), getattr(os, sys.argv[4])
def counted(*arguments, **named):
    global calls
    calls -= 1
    if calls < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
setattr(os, sys.argv[4], counted)
export(identify(bare_bundle(Path(sys.argv[1])), cache=None), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("call", "after"), [("pwrite", 0), ("pwrite", 3), ("pwrite", 9), ("fsync", 0), ("fsync", 1), ("fsync", 2)]
)
def test_a_killed_export_leaves_a_whole_file_or_none_and_the_next_one_finishes(
    dag: Dag, root: Path, out: Path, call: str, after: int
) -> None:
    assert run(KILLED, str(root), str(out), str(after), call).returncode == -signal.SIGKILL
    if not out.exists():
        export(dag, out)
    assert out.read_bytes() == b"".join(car.stream(dag))
    assert os.listdir(out.parent) == ["model.car"]


def test_progress_counts_every_byte(dag: Dag, out: Path) -> None:
    counted: list[int] = []

    class Task:
        def advance(self, amount: int) -> None:
            counted.append(amount)

        def __enter__(self) -> Task:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    class Progress:
        def task(self, label: str, total: int | None) -> Task:
            assert total == dag.layout.car_size
            return Task()

        def note(self, text: str) -> None:
            raise AssertionError(text)

    export(dag, out, Progress())
    assert sum(counted) == dag.layout.car_size


def test_an_interrupt_leaves_no_file_and_no_thread(
    dag: Dag, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reconciler.content.export.INTERVAL", MIB)
    monkeypatch.setattr(os, "fsync", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        export(dag, out)
    assert threading.active_count() == before
    assert os.listdir(out.parent) == []
