"""One run at a time in a repository. Plans and other readers take no lock.

What one run was asked for. The command line makes these; nothing else reads flags.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from reconciler.errors import LockedError
from reconciler.index.layout import Layout
from reconciler.targets.check import Check


@contextlib.contextmanager
def run_lock(state: Path, command: str) -> Iterator[None]:
    """Hold the lock in `state` (the .reconcile directory) while the block runs.

    The operating system lets go of it when the process ends, however it ends. Raises LockedError, saying who
    holds it.
    """
    lock = FileLock(state / "run.lock")
    holder = state / "run.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(
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


class ProposeMode(StrEnum):
    """Where resolved CIDs and records go."""

    WRITE = "write"  #: into the working tree
    BRANCH = "branch"  #: a commit on PROPOSAL_BRANCH; working tree and git index stay as they are
    PULL_REQUEST = "pull-request"  #: one pull request on the forge that the environment names
    NONE = "none"  #: nowhere


class Drift(StrEnum):
    """What is done about a version that was published before and is not whole any more."""

    REPAIR = "repair"
    REPORT = "report"  #: shown, not touched
    IGNORE = "ignore"  #: not even shown


PROPOSAL_BRANCH = "reconciler/resolve-cids"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run was asked for. `base` is a git ref for the frozen-CID rule, None for the whole
    history.

    `allow_removals` is the number of removals allowed on one target, None for the built-in thresholds.
    """

    layout: Layout
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    check: Check = Check.QUICK
    drift: Drift = Drift.REPAIR
    propose: ProposeMode = ProposeMode.WRITE
    prune: bool = False
    allow_removals: int | None = None
    allow_unpin_repair: bool = False
    base: str | None = None
    use_cache: bool = True
