"""A cache of the digests of files, so that unchanged files are not hashed again.

There is one entry for each file, named by its absolute path. It is used only when the stamp (device, inode,
size, mtime, ctime) is equal to the nanosecond and the checksum of the entry is correct; otherwise it counts
as missing. The directory may be deleted at any time, and several processes may share it. Like git's index,
the cache does not store a file that was modified in the two seconds before its scan, because a later change
could leave the same timestamps.

A stamp proves nothing: a file that is written through a memory map keeps all of it, and so may files on
network and overlay file systems, and files that were written while the clock was set back. An entry saves
reading, but decides nothing: every leaf is hashed again when it is sent, and `DirectoryDag.confirm` hashes
what was not sent before a CID is written anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from reconciler.content.hashing import FileDigests
from reconciler.content.scan import FileStamp, SourceFile, SourceListing
from reconciler.content.unixfs_tree import DIGEST_SIZE, leaf_count
from reconciler.errors import LockedError
from reconciler.fs import replace_file

MIN_SIZE = 1 << 16  #: bytes below which hashing a file again is as fast as reading its entry
RACY_NS = 2_000_000_000  #: age in nanoseconds below which a file is not stored

_MAGIC = b"reconciler identity 1\n"
_STAMP = struct.Struct(">QQQqq")  # device, inode, size, mtime, ctime
_CHECKSUM = 32


class StampedCache:
    """Bytes about files in their present state, in `directory`, which is created with the first entry.

    `namespace` separates what is known about the same file for different purposes.
    """

    def __init__(self, directory: Path, namespace: bytes = b"") -> None:
        self.directory = directory
        self._namespace = namespace

    def load(self, listing: SourceListing, file: SourceFile) -> bytes | None:
        """Return what is stored about `file` in its present state, or None."""
        if file.stamp.size < MIN_SIZE:
            return None
        path = self._absolute(listing, file)
        try:
            data = self._entry(path).read_bytes()
        except OSError:
            return None
        head = _head(path, file.stamp)
        body = data[:-_CHECKSUM]
        if not data.startswith(head) or hashlib.sha256(body).digest() != data[-_CHECKSUM:]:
            return None
        return body[len(head) :]

    def store(self, listing: SourceListing, file: SourceFile, found: bytes) -> None:
        """Store `found` about `file`; do nothing when the cache cannot be written or is being written."""
        if file.stamp.size < MIN_SIZE or _is_racy(file.stamp, listing.scanned_at_ns):
            return
        path = self._absolute(listing, file)
        body = _head(path, file.stamp) + found
        with contextlib.suppress(OSError, LockedError):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            entry = body + hashlib.sha256(body).digest()
            replace_file(self._entry(path), entry, mode=0o600, sync=False)

    def forget(self, listing: SourceListing, paths: Iterable[str]) -> None:
        """Delete the entries of the files at `paths` of `listing`, as far as they can be deleted."""
        wanted = frozenset(paths)
        for file in listing.files:
            if file.path in wanted:
                with contextlib.suppress(OSError):
                    self._entry(self._absolute(listing, file)).unlink()

    def _entry(self, path: bytes) -> Path:
        return self.directory / hashlib.sha256(path).hexdigest()

    def _absolute(self, listing: SourceListing, file: SourceFile) -> bytes:
        path = os.path.abspath(listing.locate(file))  # noqa: PTH100 - resolve() would read the disk
        return self._namespace + os.fsencode(path)


class IdentityCache(StampedCache):
    """The digests of files."""

    def get(self, listing: SourceListing, file: SourceFile, *, with_sum: bool) -> FileDigests | None:
        """Return the digests of `file` in its present state, or None; with its sha256 when `with_sum`."""
        found = self.load(listing, file)
        if found is None:
            return None
        size = DIGEST_SIZE * leaf_count(file.stamp.size)
        sha256, leaves = found[:-size], found[-size:]
        if len(sha256) not in (0, DIGEST_SIZE) or len(leaves) != size or (with_sum and not sha256):
            return None
        return FileDigests(sha256 or None, leaves)

    def put(self, listing: SourceListing, file: SourceFile, digests: FileDigests) -> None:
        """Store the digests of `file`; do nothing when the cache cannot be written or is being written."""
        self.store(listing, file, (digests.sha256 or b"") + digests.leaves)


def _head(path: bytes, stamp: FileStamp) -> bytes:
    packed = _STAMP.pack(stamp.dev, stamp.ino, stamp.size, stamp.mtime_ns, stamp.ctime_ns)
    return _MAGIC + len(path).to_bytes(4, "big") + path + packed


def _is_racy(stamp: FileStamp, scanned_at_ns: int) -> bool:
    return max(stamp.mtime_ns, stamp.ctime_ns) > scanned_at_ns - RACY_NS
