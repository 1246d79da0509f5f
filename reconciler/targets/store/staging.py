"""Files that appear, change and vanish durably: temp + fsync + rename + fsync of the directory.

Files under construction in tmp/, and the sweeping of those whose writer died.

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


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; a file may take less than it is given."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(fd, rest, offset)
        rest, offset = rest[count:], offset + count


def read_all(fd: int, size: int, offset: int) -> bytes:
    """The `size` bytes at `offset`, fewer at the end of the file."""
    data = os.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    parts = [data]
    have = len(data)
    while have < size and (data := os.pread(fd, size - have, offset + have)):
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def write_file(path: Path, data: bytes, temporary: Path) -> None:
    """Put `data` at `path` in one step, by way of `temporary` on the same file system."""
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            write_all(fd, data, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove `path` durably; nothing happens when it is not there."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def forget_cache(fd: int) -> None:
    """Make the next read of `fd` come from the disk, where the system can do that."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


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
