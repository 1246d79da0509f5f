"""Files under construction in tmp/, and the removal of those whose writer died.

A staged file is locked by the process that writes it. A lock that can be acquired therefore means that the
writer is dead, on whatever host or in whatever container it ran. Staging and sweeping both happen under the
lock of the store, so no file is visible to another process before it is locked.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler import fs
from reconciler.errors import LockedError
from reconciler.index.part import Part

_RESUMABLE = "ingest-"
_KEPT_SECONDS = 7 * 24 * 3600.0  # since the last write to a file that a later session may continue


@dataclass(frozen=True, slots=True)
class StagedCar:
    """An open, locked file in tmp/."""

    fd: int
    path: Path


def stage(tmp: Path, stem: str) -> StagedCar:
    """Create a locked file in `tmp`. Call it under the lock of the store, and pass the file to `released`."""
    path = tmp / f"{stem}.{secrets.token_hex(8)}.partial"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    fs.try_lock(fd)  # succeeds: no other process has opened the new file
    return StagedCar(fd, path)


def stage_resumable(tmp: Path, key: str) -> StagedCar:
    """Open and lock the file of the session `key` in `tmp`, new or left by an interrupted one.

    Call it under the lock of the store. The caller closes the file. Raises LockedError when another process
    has that session.
    """
    path = tmp / f"{_RESUMABLE}{key}.partial"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    if fs.try_lock(fd):
        staged = StagedCar(fd, path)
        if not os.fstat(fd).st_size:  # a run that was killed while it discarded the file may have left marks
            forget_parts(staged)
        return staged
    os.close(fd)
    raise LockedError(
        "another process is streaming the same version into the store",
        hint="run again when the other process has finished",
    )


def resumable_bytes(tmp: Path, key: str) -> int:
    """Return the bytes that the file of the session `key` takes on the disk; 0 without one."""
    try:
        return (tmp / f"{_RESUMABLE}{key}.partial").lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def flush(staged: StagedCar) -> None:
    """Flush a file that a session can continue.

    When that fails, it is removed with what was noted about its parts. Raises OSError.
    """
    try:
        fs.sync_resumable(staged.fd, staged.path)
    except OSError:
        with suppress(OSError):
            forget_parts(staged)
        raise


def mark_part(staged: StagedCar, part: Part) -> None:
    """Note beside a file that a session can continue that it has all leaves of `part`."""
    _part_mark(staged.path, part).touch()


def kept_parts(tmp: Path, key: str) -> frozenset[Part]:
    """Return the parts that were noted for the session `key`; none without its file."""
    path = tmp / f"{_RESUMABLE}{key}.partial"
    return frozenset(_part_marks(path)) if path.exists() else frozenset()


def forget_parts(staged: StagedCar) -> None:
    """Remove what was noted about the parts of a file that is complete."""
    for part in _part_marks(staged.path):
        _part_mark(staged.path, part).unlink(missing_ok=True)


def _part_mark(path: Path, part: Part) -> Path:
    return path.with_suffix(f".{part.number}-{part.count}.part")


def _part_marks(path: Path) -> list[Part]:
    found = (mark.name.removeprefix(f"{path.stem}.") for mark in path.parent.glob(f"{path.stem}.*.part"))
    parts = []
    for name in found:
        with suppress(ValueError):
            parts.append(Part.parse(name.removesuffix(".part").replace("-", "/")))
    return parts


@contextmanager
def released(staged: StagedCar) -> Iterator[StagedCar]:
    """Close `staged` at the end, and remove it unless it was renamed to its final path."""
    try:
        yield staged
    finally:
        staged.path.unlink(missing_ok=True)
        os.close(staged.fd)


def sweep(tmp: Path) -> None:
    """Remove the files of dead writers from `tmp`. Call it under the lock of the store.

    Those that a session can continue are kept for a week after their last change.
    """
    with os.scandir(tmp) as entries:
        paths = [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
    for path in paths:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # its writer has just finished
            continue
        try:
            age = time.time() - os.fstat(fd).st_mtime
            resumable = path.name.startswith(_RESUMABLE) and age < _KEPT_SECONDS
            if not resumable and fs.try_lock(fd):
                path.unlink()
        finally:
            os.close(fd)


def remove(path: Path) -> None:
    """Remove `path` and flush its directory; does nothing when the file does not exist."""
    path.unlink(missing_ok=True)
    fs.sync_directory(path.parent)
