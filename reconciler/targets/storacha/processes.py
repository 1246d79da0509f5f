"""The processes of the client that are running, which end with the run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from threading import Lock


class RunningProcesses:
    """Processes that lead a session of their own. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    @contextlib.contextmanager
    def holding(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Let `close` end a process while the block runs; at once where it was called before."""
        with self._lock:
            self._running.add(process)
            closed = self._closed
        try:
            if closed:
                _kill_session(process)
            yield
        finally:
            with self._lock:
                self._running.discard(process)

    def close(self) -> None:
        """Kill all processes, and those that follow. May be called twice, and from any thread."""
        with self._lock:
            self._closed = True
            for process in self._running:
                if process.returncode is None:
                    _kill_session(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, and wait for its end."""
    _kill_session(process)
    process.wait()


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
