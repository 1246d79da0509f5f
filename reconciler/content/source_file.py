"""Opening and reading one source file so that it can only be the file that was scanned.

A file is opened without following a link and without waiting for a FIFO, and compared with its stamp before
any byte is read and again afterwards: whatever was swapped in, also through a directory above, is noticed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.content.scan import SourceFile, SourceListing, stamp_of
from reconciler.errors import BundleError, SourceChangedError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SWAPPED = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO)  # a link, a file above, a socket in its place
_ADVICE = "let whatever writes it finish, then run again"


@contextmanager
def opened(listing: SourceListing, file: SourceFile) -> Iterator[int]:
    """A descriptor of `file` for reading.

    Raises SourceChangedError when the file is not the scanned one, before or after the body of the `with`,
    and BundleError when it cannot be read.
    """
    descriptor = open_regular(listing, file)
    try:
        _compare(descriptor, file)
        yield descriptor
        _compare(descriptor, file)
    except OSError as error:
        raise unreadable(file, error) from None
    finally:
        os.close(descriptor)


def open_regular(listing: SourceListing, file: SourceFile) -> int:
    """A descriptor of the regular file that lies at the path of `file` now, whatever its stamp.

    Raises SourceChangedError when there is none, BundleError when it cannot be opened.
    """
    try:
        descriptor = os.open(listing.locate(file), _FLAGS)
    except FileNotFoundError:
        raise SourceChangedError(f"{file.path!r} was removed after it was scanned", hint=_ADVICE) from None
    except OSError as error:
        if error.errno in _SWAPPED:
            raise changed(file) from None
        raise unreadable(file, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise changed(file)
    return descriptor


def read_small(listing: SourceListing, file: SourceFile, limit: int) -> bytes:
    """All bytes of `file`. Raises BundleError when it is larger than `limit` bytes, else as `opened`."""
    size = file.stamp.size
    if size > limit:
        raise BundleError(f"{file.path!r} is {size} bytes long; at most {limit} are read")
    with opened(listing, file) as descriptor:
        data = os.pread(descriptor, size, 0)
    if len(data) != size:
        raise changed(file, len(data))
    return data


def changed(file: SourceFile, offset: int | None = None) -> SourceChangedError:
    """The error for a file that no longer is what was scanned, from byte `offset` on when that is known."""
    at = "" if offset is None else f" (at byte {offset})"
    return SourceChangedError(f"{file.path!r} changed after it was scanned{at}", hint=_ADVICE)


def unreadable(file: SourceFile, error: OSError) -> BundleError:
    """The error for a file that the operating system does not let us read."""
    return BundleError(f"cannot read {file.path!r}: {(error.strerror or type(error).__name__).lower()}")


def _compare(descriptor: int, file: SourceFile) -> None:
    status = os.fstat(descriptor)
    if stamp_of(status) != file.stamp:
        if status.st_size < file.stamp.size:
            raise SourceChangedError(
                f"{file.path!r} was truncated to {status.st_size} bytes after it was scanned", hint=_ADVICE
            )
        raise changed(file)
