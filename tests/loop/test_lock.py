"""The lock of a run: a second run names the holder, and a killed one holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import LockedError
from reconciler.loop.workspace import run_lock

HOLD = """
import sys, time
from pathlib import Path
from reconciler.loop.workspace import run_lock
with run_lock(Path(sys.argv[1]), "reconcile --prune"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(state: Path) -> subprocess.Popen[str]:
    """Start another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, state], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_reports_who_holds_the_lock(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(LockedError) as caught, run_lock(tmp_path, "reconcile"):
            pytest.fail("two runs at once")
        assert "'reconcile --prune'" in caught.value.message
        assert f"process {process.pid} on " in caught.value.message
        assert caught.value.hint == "wait for it, or stop it"
        (tmp_path / "run.json").write_text("{")
        with pytest.raises(LockedError, match="its holder is unknown"), run_lock(tmp_path, "reconcile"):
            pytest.fail("two runs at once")
    finally:
        process.kill()
        process.communicate()


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    process = holder(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with run_lock(tmp_path, "reconcile"):
        assert str(os.getpid()) in (tmp_path / "run.json").read_text()
    assert not (tmp_path / "run.json").exists()


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError), run_lock(tmp_path, "reconcile"):
        raise ValueError
    with run_lock(tmp_path, "reconcile"):
        pass
