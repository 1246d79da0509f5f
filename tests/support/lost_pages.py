"""A disk that loses what was written, and says so once, as Linux does: a flush fails, and later ones succeed.

Until then, and even afterwards, reading returns the lost pages from memory. `evict` shows what the disk has.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest


class LostPages:
    """Makes the first flush that `is_due`, of a file whose path contains `name`, fail and lose its pages."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str, *, is_due: Callable[[], bool] = lambda: True
    ) -> None:
        self.has_failed = False
        self._is_due = is_due
        self._name = name
        self._on_disk: dict[int, bytes] = {}
        self._lost: set[int] = set()
        self._fsync, self._fadvise = os.fsync, os.posix_fadvise
        monkeypatch.setattr(os, "fsync", self._flush)
        monkeypatch.setattr(os, "posix_fadvise", self._advise)

    def wrote(self, path: Path) -> None:
        """Note that the bytes of `path` are on the disk."""
        self._on_disk[path.stat().st_ino] = path.read_bytes()

    def evict(self, path: Path) -> None:
        """Make reading `path` return what is on the disk."""
        inode = path.stat().st_ino
        if inode in self._lost:
            path.write_bytes(self._on_disk.get(inode, b""))

    def _flush(self, descriptor: int) -> None:
        path, status = Path(f"/proc/self/fd/{descriptor}").readlink(), os.fstat(descriptor)
        if self._name in str(path) and stat.S_ISREG(status.st_mode):
            if not self.has_failed and self._is_due():
                self.has_failed = True
                self._lost.add(status.st_ino)
                weakref.finalize(self, os.close, os.dup(descriptor))  # so that no other file gets its number
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if status.st_ino not in self._lost:
                self._on_disk[status.st_ino] = path.read_bytes()
        self._fsync(descriptor)

    def _advise(self, descriptor: int, *how: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.exists():
            self.evict(path)
            self._lost.discard(path.stat().st_ino)
        self._fadvise(descriptor, *how)
