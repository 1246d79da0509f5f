"""A CAR as a file: written beside its place, flushed and renamed, there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reconciler.content.dag import Dag
from reconciler.content.write_car import write_car
from reconciler.errors import LockedError, ReconcilerError, UsageError
from reconciler.progress import QUIET, Progress


def export(dag: Dag, path: Path, progress: Progress = QUIET) -> None:
    """Write the CAR of `dag` to `path`, which must not exist.

    What a killed export leaves behind (`.<name>.partial`) is used up by the next one to the same path. Raises
    UsageError when `path` exists, LockedError when another export is writing it, ReconcilerError when the
    disk is full or fails, and what `Dag.read` raises; then nothing is left.
    """
    if os.path.lexists(path):
        raise UsageError(f"{str(path)!r} exists", hint="remove it, or choose another name")
    total = dag.layout.car_size
    try:
        with _staged(path) as descriptor, progress.task("writing", total) as task:
            if shutil.disk_usage(path.parent).free < total:
                raise _full(path, total)
            write_car(descriptor, dag, task)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(path, total) from None
        raise ReconcilerError(
            f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}"
        ) from None


@contextmanager
def _staged(path: Path) -> Iterator[int]:
    """A descriptor whose file, flushed by the body, becomes `path`; it is removed when the body fails."""
    staging = path.parent / f".{path.name}.partial"
    descriptor = _lock(staging, path)
    try:
        os.ftruncate(descriptor, 0)
        yield descriptor
        staging.rename(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _lock(staging: Path, path: Path) -> int:
    """The staging file, ours alone as long as the descriptor is open."""
    while True:
        descriptor = os.open(staging, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise LockedError(f"another export is writing {str(path)!r}") from None
        # Another export may have finished in between: then this is its file, no longer the staging one.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), staging.lstat()):
                return descriptor
        os.close(descriptor)


def _full(path: Path, total: int) -> ReconcilerError:
    return ReconcilerError(
        f"no room for {str(path)!r}: {total} bytes are needed",
        hint="free some space or choose another disk; nothing was left behind",
    )
