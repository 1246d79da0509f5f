"""A finished file or directory put in place: there at once, never over anything that is there."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

from reconciler.errors import ReconcilerError, UsageError


def check_free(destination: Path, *, single_file: bool) -> None:
    """Raise UsageError unless `destination` does not exist, or is an empty directory and may be one."""
    taken = destination.is_symlink() or destination.exists()
    if taken and (single_file or not destination.is_dir() or destination.is_symlink()):
        raise UsageError(
            f"destination {str(destination)!r} already exists", hint="choose a path that does not exist"
        )
    if taken and any(destination.iterdir()):
        raise UsageError(
            f"destination {str(destination)!r} is not empty",
            hint="choose a path that does not exist, or empty it",
        )


def check_space(directory: Path, size: int) -> None:
    """Raise ReconcilerError when `size` bytes do not fit on the disk of `directory`."""
    free = shutil.disk_usage(directory).free
    if size > free:
        raise ReconcilerError(
            f"not enough space for {size} bytes: {str(directory)!r} has {free} free",
            hint="free some space, or choose a destination on another disk",
        )


def lock_directory(stage: Path) -> int | None:
    """Hold `stage` until the descriptor is closed; None when another process holds or has removed it."""
    try:
        descriptor = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0 or not stage.exists():
            raise FileNotFoundError(stage)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def appear(content: Path, destination: Path) -> None:
    """Put the finished content in place, never over anything that is there."""
    if content.is_dir():
        content.rename(destination)  # refuses a directory that is not empty
    else:
        _link(content, destination)
    sync_directory(destination.parent)


def _link(file: Path, destination: Path) -> None:
    try:
        os.link(file, destination)  # unlike a rename, refuses to replace
    except FileExistsError:
        raise UsageError(f"destination {str(destination)!r} already exists") from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without hard links: a rename after one more look is the closest there is.
        check_free(destination, single_file=True)
        file.rename(destination)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
