"""Programs that are killed at a chosen moment."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def kill_when(
    ready: Callable[[], bool],
    command: Sequence[str],
    *,
    later: float = 0.0,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run `command` and kill it `later` seconds after it is `ready`; its children are left alone.

    It must not end by itself before that, nor take more than a minute.
    """
    run = subprocess.Popen(command, env=environ, cwd=cwd, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not ready():
            assert run.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "it did not become ready"
            time.sleep(0.02)
        time.sleep(later)
    finally:
        run.kill()
        run.wait()


def has_text(path: Path) -> bool:
    """Return whether a file has any text, as when a child has told its number."""
    return path.exists() and bool(path.read_text())


def living(group: int) -> list[int]:
    """Return the processes of a process group that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(number) == group and state != "Z":
            found.append(int(status.parent.name))
    return found
