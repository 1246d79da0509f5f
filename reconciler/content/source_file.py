"""Opening and reading one source file, with a check that it is still the file that was scanned.

A file is opened without following a link and without waiting for a FIFO, and compared with its stamp before
any byte is read and again afterwards. This detects any replacement, including one of a parent directory.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.content.scan import SourceFile, SourceListing, stamp_of
from reconciler.errors import BundleError, SourceChangedError
from reconciler.fs import read_at

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SWAPPED = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO)  # now a link, below a file, a socket
#: what to do about a file that changes during a run
WAIT_HINT = "wait until no program writes it, then run again"


@contextmanager
def opened(listing: SourceListing, file: SourceFile) -> Iterator[int]:
    """Open `file` for reading and yield its descriptor.

    Raises SourceChangedError when the file is not the scanned one, before or after the body of the `with`,
    and BundleError when it cannot be read.
    """
    descriptor, status = _open(listing, file)
    try:
        _compare(status, file)
        yield descriptor
        _compare(os.fstat(descriptor), file)
    except OSError as error:
        raise unreadable(file, error) from None
    finally:
        os.close(descriptor)


def open_regular(listing: SourceListing, file: SourceFile) -> int:
    """Open the regular file that is now at the path of `file`, regardless of its stamp.

    Raises SourceChangedError when there is no regular file, BundleError when it cannot be opened.
    """
    return _open(listing, file)[0]


def _open(listing: SourceListing, file: SourceFile) -> tuple[int, os.stat_result]:
    try:
        descriptor = os.open(listing.locate(file), _FLAGS)
    except FileNotFoundError:
        raise SourceChangedError(f"{file.path!r} was removed after it was scanned", hint=WAIT_HINT) from None
    except OSError as error:
        if error.errno in _SWAPPED:
            raise changed(file) from None
        raise unreadable(file, error) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise changed(file)
    return descriptor, status


def check_size(listing: SourceListing, file: SourceFile) -> None:
    """Raise SourceChangedError when `file` has another size than when it was scanned."""
    descriptor = open_regular(listing, file)
    try:
        if (size := os.fstat(descriptor).st_size) != file.stamp.size:
            raise changed(file, min(size, file.stamp.size))
    finally:
        os.close(descriptor)


def read_small(listing: SourceListing, file: SourceFile, limit: int) -> bytes:
    """Return all bytes of `file`. Raises BundleError when it exceeds `limit` bytes, otherwise as `opened`."""
    size = file.stamp.size
    if size > limit:
        raise BundleError(f"{file.path!r} has {size} bytes; the limit is {limit}")
    if listing.read_span is not None:
        return listing.read_span(file, size, 0)
    with opened(listing, file) as descriptor:
        data = read_at(descriptor, size, 0)
    if len(data) != size:
        raise changed(file, len(data))
    return data


def changed(file: SourceFile, offset: int | None = None) -> SourceChangedError:
    """Make the error for a file that differs from what was scanned, from byte `offset` if that is known."""
    at = "" if offset is None else f" (at byte {offset})"
    return SourceChangedError(f"{file.path!r} changed after it was scanned{at}", hint=WAIT_HINT)


def unreadable(file: SourceFile, error: OSError) -> BundleError:
    """Make the error for a file that the operating system cannot read."""
    return BundleError(f"cannot read {file.path!r}: {(error.strerror or type(error).__name__).lower()}")


def _compare(status: os.stat_result, file: SourceFile) -> None:
    if stamp_of(status) != file.stamp:
        if status.st_size < file.stamp.size:
            raise SourceChangedError(
                f"{file.path!r} was truncated to {status.st_size} bytes after it was scanned", hint=WAIT_HINT
            )
        raise changed(file)
