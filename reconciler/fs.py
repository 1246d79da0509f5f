"""Files and directories on disk: atomic replacement, publication by rename, exact reads and writes, locks.

Every room that writes a file uses this module. A file appears under its final name by a rename, after its
bytes reached the disk; a process that is killed leaves at most one staging file, which the next writer
reuses.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from reconciler.errors import FileChangedError, LockedError, ReconcilerError, UsageError

_AT_FDCWD = -100  # openat(2)
_RENAME_EXCHANGE = 2  # renameat2(2)
_RENAME_SWAP = 2  # renamex_np(2)
_MOST_PARTS = 1024  # of one call: IOV_MAX of Linux and macOS
_OPEN_STAGING = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


# --- reading and writing


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Return the `size` bytes at `offset`, fewer only at the end of the file."""
    data = os.pread(descriptor, size, offset)
    if len(data) == size or not data:
        return data
    parts = [data]
    length = len(data)
    while length < size and (data := os.pread(descriptor, size - length, offset + length)):
        parts.append(data)
        length += len(data)
    return b"".join(parts)


def read_into(descriptor: int, out: memoryview, offset: int) -> int:
    """Fill `out` with the bytes at `offset`; return their number, less than asked for only at the end."""
    done = 0
    while done < len(out) and (count := os.preadv(descriptor, [out[done:]], offset + done)):
        done += count
    return done


def read_start(path: Path | str, limit: int) -> bytes:
    """Return the bytes of a regular file, of one that is longer than `limit` at least one more than that.

    Does not wait for a FIFO. Raises OSError, with EINVAL for what is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        # Not `limit + 1` at once: that memory would be allocated first.
        data = os.read(descriptor, min(limit, status.st_size) + 1)
        return data if len(data) <= status.st_size else data + read_at(descriptor, limit, len(data))
    finally:
        os.close(descriptor)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def write_parts_at(descriptor: int, parts: Sequence[bytes | memoryview], offset: int) -> None:
    """Write all `parts`, one after the other, at `offset`."""
    for start in range(0, len(parts), _MOST_PARTS):
        some = parts[start : start + _MOST_PARTS]
        size = sum(map(len, some))
        count = os.pwritev(descriptor, some, offset)
        if count < size:
            write_at(descriptor, b"".join(some)[count:], offset + count)
        offset += size


def sync_directory(directory: Path) -> None:
    """Flush the entries of `directory` to the disk.

    Does nothing on file systems that cannot sync a directory.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def sync_resumable(descriptor: int, path: Path) -> None:
    """Flush an open file that a later run may continue; remove `path` when that fails, and raise OSError.

    After a failed flush, Linux counts the pages that it could not write as written: they are read from memory
    as if they were intact, and the next flush succeeds (fsync(2), NOTES). So nothing in such a file proves
    that it is on the disk.
    """
    try:
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


# --- replacing one file


@contextmanager
def staged_file(
    path: Path, *, mode: int = 0o666, staging: Path | None = None, sync: bool = True
) -> Iterator[int]:
    """Yield a descriptor of an empty staging file that replaces `path` when the body succeeds.

    The staging file is `staging`, by default `.<name>.new` beside `path`; it must be on the same file system.
    It is locked while it is open, so that a leftover of a killed process is recognized and reused. `mode` is
    subject to the umask, as for `open`. Without `sync` nothing is flushed to the disk: for caches. When the
    body fails, the staging file is removed and `path` is unchanged.

    Raises LockedError while another process writes the same file, and OSError.
    """
    staged = path.with_name(f".{path.name}.new") if staging is None else staging
    descriptor = _open_staging(staged, path, mode)
    try:
        os.ftruncate(descriptor, 0)
        yield descriptor
        if sync:
            os.fsync(descriptor)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    if sync:
        sync_directory(path.parent)


def replace_file(
    path: Path,
    data: bytes,
    *,
    mode: int | None = None,
    expected: bytes | None = None,
    staging: Path | None = None,
    sync: bool = True,
) -> None:
    """Write `data` to `path` atomically. `mode` are the exact permissions; None: 0o666 less the umask.

    With `expected`, replace the file only while these are its bytes. `staging` and `sync` as in
    `staged_file`. Raises FileChangedError when the file has other bytes than `expected`, LockedError, and
    OSError.
    """
    with staged_file(path, mode=0o666 if mode is None else 0o600, staging=staging, sync=sync) as descriptor:
        write_at(descriptor, data, 0)
        if mode is not None:
            os.fchmod(descriptor, mode)
        if expected is not None:
            if sync:
                os.fsync(descriptor)  # slow, so before the check: little time is left for another writer
            if path.read_bytes() != expected:
                raise FileChangedError(path)


def _open_staging(staged: Path, path: Path, mode: int) -> int:
    """Open and lock the staging file. Raises LockedError when another process has it open."""
    while True:
        descriptor = os.open(staged, _OPEN_STAGING, mode)
        if not try_lock(descriptor):
            os.close(descriptor)
            raise LockedError(
                f"another process is writing {str(path)!r}", hint="try again when it has finished"
            )
        # Another writer may have finished in between: then this file is at its final name already.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), staged.lstat()):
                return descriptor
        os.close(descriptor)


# --- publishing a finished file or directory


def check_free(destination: Path, *, single_file: bool) -> None:
    """Raise UsageError when `destination` exists; without `single_file`, an empty directory is allowed."""
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
    """Raise ReconcilerError when the file system of `directory` has less than `size` bytes free."""
    import shutil

    free = shutil.disk_usage(directory).free
    if size > free:
        raise ReconcilerError(
            f"not enough space for {size} bytes: {str(directory)!r} has {free} free",
            hint="free some space, or choose a destination on another disk",
        )


def publish_atomically(content: Path, destination: Path) -> None:
    """Move a finished file or directory to `destination`; never overwrite.

    Raises UsageError when a file is there already, OSError for a directory that is not empty.
    """
    if content.is_dir():
        content.rename(destination)  # fails for a directory that is not empty
    else:
        _link(content, destination)
    sync_directory(destination.parent)


def clock_of(directory: Path) -> int:
    """Return the ctime that a new entry of `directory` gets now, in nanoseconds of its file system."""
    import tempfile

    probe = Path(tempfile.mkdtemp(prefix=".clock-", dir=directory))
    try:
        return probe.stat().st_ctime_ns
    finally:
        probe.rmdir()


def exchange(first: Path, second: Path) -> None:
    """Exchange two directories of one file system in one step.

    Raises OSError with ENOSYS or EINVAL where the system or the file system cannot do this.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    elif hasattr(libc, "renamex_np"):  # macOS
        failed = libc.renamex_np(*names, _RENAME_SWAP)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(first))
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(first))


def _link(file: Path, destination: Path) -> None:
    try:
        os.link(file, destination)  # unlike a rename, never replaces
    except FileExistsError:
        raise UsageError(f"destination {str(destination)!r} already exists") from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # Without hard links, checking once more before a rename is the closest equivalent.
        check_free(destination, single_file=True)
        file.rename(destination)


def create_private_file(path: Path, data: bytes) -> None:
    """Create a file that only its owner can read, on the disk; none is left where that fails.

    Raises FileExistsError, also for a link, and OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_at(descriptor, data, 0)
        os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


# --- directories of the user and of the system


def escaping_link(root: Path, path: str) -> str | None:
    """Return the first part of `path` that leads out of `root` through a link, or in circles; else None."""
    top = root.resolve()
    for part in (*reversed(PurePosixPath(path).parents), PurePosixPath(path)):
        try:
            if not (root / part).resolve().is_relative_to(top):
                return str(part)
        except (OSError, RuntimeError):  # a loop of links
            return str(part)
    return None


def user_directory(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """Return our directory below `variable`, or below `below_home` in the user's home directory.

    The source is the XDG Base Directory specification. A user without a home directory, as in containers
    that run under any user id, has `/`.
    """
    base = environ.get(variable)
    if base:
        return Path(base) / "reconcile"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/")
    return home / below_home / "reconcile"


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """Create a directory for temporary files, and remove it with its content at the end.

    Raises ReconcilerError when there is no place for it.
    """
    import tempfile

    try:
        made = tempfile.TemporaryDirectory(prefix=prefix)
    except OSError as error:
        raise no_temporary_place(error) from None
    with made as directory:
        yield Path(directory)


def temporary_directory(prefix: str) -> Path:
    """Create a directory that is removed with its content when the process ends. Raises ReconcilerError."""
    import shutil
    import tempfile

    try:
        made = tempfile.mkdtemp(prefix=prefix)
    except OSError as error:
        raise no_temporary_place(error) from None
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def expand_user(path: str) -> Path:
    """Return `path` with the home directory for a leading `~`, unchanged when that is unknown."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises


def no_temporary_place(error: OSError) -> ReconcilerError:
    """Make the error for temporary files that the operating system refuses, as when their disk is full."""
    return ReconcilerError(
        f"cannot create temporary files: {(error.strerror or str(error)).lower()}",
        hint="set TMPDIR to a directory that can be written and has free space",
    )


def why_unwritable(directory: Path) -> str:
    """Return why the operating system does not let this process write to an existing directory."""
    is_read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if is_read_only else errno.EACCES).lower()


# --- locks


def try_lock(descriptor: int) -> bool:
    """Lock an open file or directory exclusively, without waiting; False when another process holds the lock.

    The lock ends when the descriptor is closed or the process ends.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_directory(directory: Path) -> int | None:
    """Open and lock `directory`; None when another process holds the lock, or when it is gone.

    The caller closes the descriptor, which releases the lock.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    if try_lock(descriptor) and os.fstat(descriptor).st_nlink and directory.exists():
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def locked(file: Path, message: str | Callable[[], str], *, hint: str, timeout: float = 0) -> Iterator[None]:
    """Hold the lock file `file` while the body runs; wait for it up to `timeout` seconds.

    The operating system releases the lock when the process ends, however it ends. Raises LockedError with
    `message` and `hint` when another process holds it; a function is called for the message at that moment.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(message() if callable(message) else message, hint=hint) from None
    try:
        yield
    finally:
        lock.release()
