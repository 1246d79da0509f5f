"""What files hashed to before, so that a pass over unchanged bytes can be skipped.

One entry a file, found by its absolute path and believed only when the stamp (device, inode, size, mtime,
ctime) is the same to the nanosecond and the entry's own checksum holds; anything else counts as not there.
The directory may be deleted at any time, and several processes may share it. Like git's index, the cache does
not take up a file that was modified within the last two seconds before its scan: a later change could leave
the same timestamps. An entry is never trusted further than the source itself: every leaf is hashed again on
its way out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
from pathlib import Path

from reconciler.content.hashing import FileDigests
from reconciler.content.layout import DIGEST_SIZE, leaf_count
from reconciler.content.scan import FileStamp, SourceFile, SourceListing

MIN_SIZE = 1 << 16  #: bytes below which hashing a file again is as quick as reading its entry
RACY_NS = 2_000_000_000

_MAGIC = b"reconciler identity 1\n"
_STAMP = struct.Struct(">QQQqq")  # device, inode, size, mtime, ctime
_CHECKSUM = 32


class IdentityCache:
    """Entries under `directory`, which is made when the first one is stored."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, listing: SourceListing, file: SourceFile, *, with_sum: bool) -> FileDigests | None:
        """The digests of `file` in exactly its present state, or None; with its sha256 when `with_sum`."""
        if file.stamp.size < MIN_SIZE:
            return None
        path = _absolute(listing, file)
        try:
            data = self._entry(path).read_bytes()
        except OSError:
            return None
        head = _head(path, file.stamp)
        size = DIGEST_SIZE * leaf_count(file.stamp.size)
        body = data[:-_CHECKSUM]
        if not data.startswith(head) or hashlib.sha256(body).digest() != data[-_CHECKSUM:]:
            return None
        sha256, leaves = body[len(head) : -size], body[-size:]
        if len(sha256) not in (0, DIGEST_SIZE) or (with_sum and not sha256):
            return None
        return FileDigests(sha256 or None, leaves)

    def put(self, listing: SourceListing, file: SourceFile, digests: FileDigests) -> None:
        """Remember what `file` hashed to. A cache that cannot be written is no error."""
        if file.stamp.size < MIN_SIZE or _is_racy(file.stamp, listing.scanned_at_ns):
            return
        path = _absolute(listing, file)
        body = _head(path, file.stamp) + (digests.sha256 or b"") + digests.leaves
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._replace(self._entry(path), body + hashlib.sha256(body).digest())

    def _entry(self, path: bytes) -> Path:
        return self._directory / hashlib.sha256(path).hexdigest()

    def _replace(self, entry: Path, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(temporary).replace(entry)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _absolute(listing: SourceListing, file: SourceFile) -> bytes:
    return os.fsencode(os.path.abspath(listing.locate(file)))  # noqa: PTH100 - resolve() would touch the disk


def _head(path: bytes, stamp: FileStamp) -> bytes:
    packed = _STAMP.pack(stamp.dev, stamp.ino, stamp.size, stamp.mtime_ns, stamp.ctime_ns)
    return _MAGIC + len(path).to_bytes(4, "big") + path + packed


def _is_racy(stamp: FileStamp, scanned_at_ns: int) -> bool:
    return max(stamp.mtime_ns, stamp.ctime_ns) > scanned_at_ns - RACY_NS
