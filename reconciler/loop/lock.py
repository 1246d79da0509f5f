"""One run at a time in a repository. Plans and other readers take no lock."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from reconciler.errors import Locked


@contextlib.contextmanager
def run_lock(state: Path, command: str) -> Iterator[None]:
    """Hold the lock in `state` (the .reconcile directory) while the block runs.

    The operating system lets go of it when the process ends, however it ends. Raises Locked, saying who holds
    it.
    """
    lock = FileLock(state / "run.lock")
    holder = state / "run.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Locked(
            f"another run holds the lock: {_holder(holder)}", hint="wait for it, or stop it"
        ) from None
    try:
        who = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": command,
        }
        holder.unlink(missing_ok=True)  # of a run that was killed; or a link that a repository brought along
        with holder.open("x", encoding="utf-8") as file:
            json.dump(who, file)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"{who['command']!r}, process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it did not say who it is"
