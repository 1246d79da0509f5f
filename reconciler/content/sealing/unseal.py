"""The way back: sealed files into plain ones, in place or in spans, every chunk authenticated.

In place, each chunk is replaced by its plain text, which begins earlier in the file, so nothing is
overwritten that is still needed, and there is never a second copy on the disk.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle

from reconciler.content.age import header
from reconciler.content.age.errors import AgeError
from reconciler.content.age.keys import Identity
from reconciler.content.age.stream import (
    CHUNK,
    SEALED_CHUNK,
    chunk_count,
    open_chunks,
    payload_cipher,
    plain_size,
)
from reconciler.content.cid import Cid
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.sealing.seal_key import SealKey
from reconciler.content.sealing.seal_pass import SegmentTags, hash_sealed, sum_files
from reconciler.content.sealing.sealed_file import FileSealer
from reconciler.content.unixfs_tree import file_tree
from reconciler.fs import read_at, write_at
from reconciler.progress import Task

_AT_ONCE = 16  # chunks
_AHEAD = 4  # buffers of plain text, some of which wait for their hashing

ReadSealed = Callable[[int, int], bytes]
"""Reads a sealed file: the first byte and the number of bytes, fewer only at its end."""


class SealedFile:
    """An age file of `size` bytes that one of `identities` opens. `plain_size` is that of its plain text.

    Raises AgeError when none opens it, or when it is malformed.
    """

    def __init__(self, read: ReadSealed, size: int, identities: Sequence[Identity]) -> None:
        head = header.parse(read(0, min(size, header.MAX_SIZE)))
        file_key = head.open(identities)
        nonce = read(head.size, header.NONCE)
        if len(nonce) != header.NONCE:
            raise AgeError("is cut off")
        self._read = read
        self._start = head.size + header.NONCE
        self._cipher = payload_cipher(file_key, nonce)
        self.plain_size = plain_size(size - self._start)
        self._last = chunk_count(self.plain_size) - 1
        self.chunks = self._last + 1

    def open_chunks(self, first: int, count: int, out: memoryview) -> int:
        """Write the plain text of `count` chunks, fewer at the end, to `out`; return its size.

        Raises AgeError.
        """
        data = memoryview(self._read(self._start + first * SEALED_CHUNK, count * SEALED_CHUNK))
        if -(-len(data) // SEALED_CHUNK) != min(count, self.chunks - first):
            raise AgeError("is cut off")
        return open_chunks(self._cipher, first, data, out, last=self._last)

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes of the plain text from `start`, fewer only at its end. Raises AgeError."""
        first, last = start // CHUNK, (start + size - 1) // CHUNK
        if size <= 0 or start >= self.plain_size:
            return b""
        out = memoryview(bytearray((last - first + 1) * CHUNK))
        found = out[: self.open_chunks(first, last - first + 1, out)]
        return bytes(found[start - first * CHUNK :][:size])


def unseal_in_place(descriptor: int, identities: Sequence[Identity], task: Task) -> bytes:
    """Replace the age file open at `descriptor` by its plain text; return the SHA-256 of that.

    Raises AgeError; the file is then empty, so that no plain text is left of a file that was altered.
    """
    size = os.fstat(descriptor).st_size
    try:
        sealed = SealedFile(lambda start, count: read_at(descriptor, count, start), size, identities)
        digest = hashlib.sha256()
        with ThreadPoolExecutor(1, thread_name_prefix="sum") as hashing:
            waiting: deque[Future[None]] = deque()
            buffers = cycle(memoryview(bytearray(_AT_ONCE * CHUNK)) for _ in range(_AHEAD))
            for first in range(0, sealed.chunks, _AT_ONCE):
                if len(waiting) == _AHEAD:
                    waiting.popleft().result()
                buffer = next(buffers)
                data = buffer[: sealed.open_chunks(first, _AT_ONCE, buffer)]
                write_at(descriptor, data, first * CHUNK)
                waiting.append(hashing.submit(digest.update, data))
                task.advance(len(data))
        os.ftruncate(descriptor, sealed.plain_size)
    except BaseException:
        os.ftruncate(descriptor, 0)
        raise
    return digest.digest()


def sealed_cids(
    listing: SourceListing, files: Mapping[str, SourceFile], key: SealKey, task: Task
) -> dict[str, Cid]:
    """Return the CIDs that plain files have when they are sealed under `key`.

    `files` are files of `listing` by their paths in the bundle, as are the CIDs. Raises SourceChangedError
    and BundleError.
    """
    tags = SegmentTags()
    sums = sum_files(listing, list(files.values()), tags, task)
    sealers = {
        file: FileSealer(key, path, sums[file.path].sha256, file.stamp.size) for path, file in files.items()
    }
    found: dict[str, Cid] = {}
    hash_sealed(
        listing,
        sealers,
        sums,
        tags,
        task,
        lambda file, digests: found.update(
            {sealers[file].path: file_tree(sealers[file].size, digests.leaves).cid}
        ),
    )
    return found
