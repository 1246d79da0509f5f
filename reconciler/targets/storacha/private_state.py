"""A directory that only we can read, for the client's key and proof, and for no longer than it is needed.

Whoever uses it holds a lock on a file in it, the client included. The operating system takes that lock from
a process that is killed; so what a killed run left is known for what it is, and the next one removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

_PREFIX = "reconcile-storacha-"
_OWNER = "owner"
_MODE = 0o700  # as mkdtemp makes it


class PrivateState:
    """One such directory, made when this is; `lock` is a file descriptor, open until `remove`."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self.lock = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if _is_ours(self.lock, self.path):
                return
            os.close(self.lock)  # another run swept it away between two of our calls

    def remove(self) -> None:
        """Remove it with all that is in it."""
        _clear(self.path)
        os.close(self.lock)


def _is_ours(lock: int, directory: Path) -> bool:
    """Whether we have the lock, on what still lies there; also where nothing can be locked."""
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(lock), (directory / _OWNER).lstat())
    except OSError:
        return False


def _sweep(parent: Path) -> None:
    """Remove what runs of this user left that were killed. What cannot be told or removed stays."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                with contextlib.suppress(OSError):
                    _remove_dead(Path(entry.path))


def _remove_dead(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o777 != _MODE:
        return
    lock = os.open(directory / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError while anybody uses it
        _clear(directory)
    finally:
        os.close(lock)


def _clear(directory: Path) -> None:
    """Remove everything; what says whose it is goes last, should we be killed meanwhile."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _OWNER:
                path.unlink()
    shutil.rmtree(directory, ignore_errors=True)
