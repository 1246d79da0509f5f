"""Files under construction in tmp/, and the sweeping of those whose writer died.

A staged file is locked (flock) by the process that writes it, so a lock that can be had means that its owner
is dead, on whatever host or in whatever container it ran. Creating and sweeping both happen under the store's
lock: between them no file is seen before it is locked.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Staged:
    """An open, locked file in tmp/."""

    fd: int
    path: Path


def stage(tmp: Path, stem: str) -> Staged:
    """A new staged file; call under the store's lock, and `release` it whatever happens."""
    path = tmp / f"{stem}.{secrets.token_hex(8)}.partial"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return Staged(fd, path)


@contextmanager
def released(staged: Staged) -> Iterator[Staged]:
    """Close `staged` at the end, and remove it unless it was renamed to its final place."""
    try:
        yield staged
    finally:
        staged.path.unlink(missing_ok=True)
        os.close(staged.fd)


def sweep(tmp: Path) -> None:
    """Remove what dead writers left in `tmp`; call under the store's lock."""
    with os.scandir(tmp) as entries:
        paths = [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
    for path in paths:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # its writer has just finished
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
