"""A file replaced by rename: readers see the old or the new content, whenever the writer is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from reconciler.errors import InvalidIndexError, LockedError, Where


def replace_file(path: Path, data: bytes, mode: int, *, instead_of: bytes | None = None) -> None:
    """Put `data` at `path` with permissions `mode`, and bring it to the disk.

    With `instead_of`, only if that is still what is there. What is written lies beside it under a name of its
    own, locked; a killed writer leaves at most that one file, and the next one uses it up. Raises LockedError
    while another process writes the same file, InvalidIndexError when it changed meanwhile, OSError.
    """
    staged = path.with_name(f".{path.name}.new")
    descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(descriptor, staged, path)
        try:
            os.ftruncate(descriptor, 0)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            if instead_of is not None and path.read_bytes() != instead_of:
                hint = "nothing was written; run again"
                raise InvalidIndexError("changed meanwhile", hint=hint, where=Where(str(path)))
            staged.replace(path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):  # some file systems cannot sync a directory
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _lock(descriptor: int, staged: Path, path: Path) -> None:
    """Lock what is open, and make sure that it still is what lies at `staged`."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), staged.stat()):
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise LockedError(f"{str(path)!r} is being written by another process", hint="try again when it is done")
