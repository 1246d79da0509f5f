"""The two passes over the files of a bundle that is sealed: their sums, then the digests when sealed.

The key of a sealed file depends on the sum of its bytes. If a file changed between the two passes, other
bytes would be sealed under the key of the first ones, and who has both would learn the difference. So the
first pass also computes a tag of every segment, under a key that lives as long as the run (GMAC, which costs
a twentieth of the sum), and the second one seals no segment without its tag.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event

from reconciler.content import profile, source_file
from reconciler.content.age.primitives import require_cryptography
from reconciler.content.age.stream import CHUNK, SEALED_CHUNK, chunk_count
from reconciler.content.hashing import FileDigests
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.sealing.sealed_file import FileSealer
from reconciler.fs import read_into
from reconciler.progress import Task

_SEGMENT = 16 * CHUNK  # bytes of plain text that a thread seals at once
_THREADS = 2
_AHEAD = 8  # segments that are sealed before they are needed
_BEHIND = 4  # segments whose leaves may still be hashed; a leaf reaches into two
_NO_NONCE = bytes(12)  # the tags are never shown to anybody


@dataclass(frozen=True, slots=True)
class PlainSum:
    """The SHA-256 of a file, and the tag of each of its segments, in order."""

    sha256: bytes
    tags: tuple[bytes, ...]


class SegmentTags:
    """The tags of one run."""

    def __init__(self) -> None:
        require_cryptography()
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(os.urandom(32))

    def of(self, data: memoryview) -> bytes:
        """Return the tag of a segment."""
        return self._cipher.encrypt(_NO_NONCE, b"", data)


def sum_files(
    listing: SourceListing, files: Sequence[SourceFile], tags: SegmentTags, task: Task
) -> dict[str, PlainSum]:
    """Return the sums of `files` by path. Raises SourceChangedError or BundleError with the name."""
    stopped = Event()

    def sum_file(file: SourceFile) -> PlainSum | None:
        digest, found = hashlib.sha256(), []
        buffer = memoryview(bytearray(min(_SEGMENT, file.stamp.size)))
        try:
            with source_file.opened(listing, file) as descriptor:
                for start in range(0, file.stamp.size, _SEGMENT):
                    if stopped.is_set():
                        return None
                    data = _segment(descriptor, file, start, buffer)
                    digest.update(data)
                    found.append(tags.of(data))
                    task.advance(len(data))
        except BaseException:
            stopped.set()
            raise
        return PlainSum(digest.digest(), tuple(found))

    largest_first = sorted(files, key=lambda file: file.stamp.size, reverse=True)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sum") as pool:
        try:
            done = list(zip(largest_first, pool.map(sum_file, largest_first), strict=True))
        finally:
            stopped.set()
    return {file.path: found for file, found in done if found is not None}


def hash_sealed(
    listing: SourceListing,
    files: Mapping[SourceFile, FileSealer],
    sums: Mapping[str, PlainSum],
    tags: SegmentTags,
    task: Task,
    done: Callable[[SourceFile, FileDigests], None],
) -> None:
    """Seal `files`, and call `done` with the digests of each sealed file; nothing is kept.

    `sums` are those of `sum_files`, by path. Raises SourceChangedError for a file that differs from them.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="seal") as pool:
        for file, sealer in files.items():
            with source_file.opened(listing, file) as descriptor:
                sealing = _SealedSegments(pool, descriptor, file, sealer, sums[file.path].tags, tags)
                try:
                    found = _digests(pool, sealing, task)
                finally:
                    sealing.stop()
                done(file, found)


class _SealedSegments:
    """The segments of one sealed file in order, some of them sealed ahead of the reader.

    The buffers are used again: one that the reader got is its own until `release`.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        descriptor: int,
        file: SourceFile,
        sealer: FileSealer,
        known: Sequence[bytes],
        tags: SegmentTags,
    ) -> None:
        self._pool = pool
        self._descriptor = descriptor
        self._file = file
        self._sealer = sealer
        self._known = known
        self._tags = tags
        self._starts = iter(range(0, max(1, file.stamp.size), _SEGMENT))
        self._waiting: deque[Future[tuple[_SegmentBuffer, int, int]]] = deque()
        self._free: deque[_SegmentBuffer] = deque()

    @property
    def head(self) -> bytes:
        return self._sealer.head

    def next(self) -> tuple[_SegmentBuffer, int, int] | None:
        """Return the next segment, its bytes and those of its plain text; None at the end."""
        while len(self._waiting) < _AHEAD and (start := next(self._starts, None)) is not None:
            buffer = self._free.popleft() if self._free else _SegmentBuffer(self._file.stamp.size)
            self._waiting.append(self._pool.submit(self._seal, start, buffer))
        return self._waiting.popleft().result() if self._waiting else None

    def release(self, buffer: _SegmentBuffer) -> None:
        """Take a buffer back."""
        self._free.append(buffer)

    def stop(self) -> None:
        """Wait until nothing reads the descriptor any more, since its number may soon be another file's."""
        for job in self._waiting:
            job.cancel()
        wait(self._waiting)

    def _seal(self, start: int, buffer: _SegmentBuffer) -> tuple[_SegmentBuffer, int, int]:
        data = buffer.plain[:0]
        if self._file.stamp.size:
            data = _segment(self._descriptor, self._file, start, buffer.plain)
            if not hmac.compare_digest(self._tags.of(data), self._known[start // _SEGMENT]):
                raise source_file.changed(self._file, start)
        return buffer, self._sealer.seal(start // CHUNK, data, buffer.sealed), len(data)


class _SegmentBuffer:
    """Room for one segment, plain and sealed; `used_by` are the digests that still read it."""

    def __init__(self, size: int) -> None:
        count = chunk_count(min(size, _SEGMENT))
        self.plain = memoryview(bytearray(min(size, _SEGMENT)))
        self.sealed = memoryview(bytearray(count * SEALED_CHUNK))
        self.used_by: list[Future[bytes]] = []


def _digests(pool: ThreadPoolExecutor, sealing: _SealedSegments, task: Task) -> FileDigests:
    """Return the digests of a sealed file; the sum is computed here, the leaves by `pool`."""
    whole = hashlib.sha256()
    leaves: list[Future[bytes]] = []
    leaf: list[memoryview] = []
    filling: list[_SegmentBuffer] = []  # of which parts are in `leaf`
    reading: deque[_SegmentBuffer] = deque()
    missing = profile.CHUNK_SIZE  # bytes of the leaf that is being filled

    def add(view: memoryview, buffer: _SegmentBuffer | None) -> None:
        nonlocal missing, leaf, filling
        whole.update(view)
        while view:
            leaf.append(view[:missing])
            if buffer is not None and buffer not in filling:
                filling.append(buffer)
            view, missing = view[missing:], missing - len(leaf[-1])
            if not missing:
                hash_leaf()

    def hash_leaf() -> None:
        nonlocal missing, leaf, filling
        leaves.append(pool.submit(_digest, leaf))
        for buffer in filling:
            buffer.used_by.append(leaves[-1])
        leaf, filling, missing = [], [], profile.CHUNK_SIZE

    add(memoryview(sealing.head), None)
    while (found := sealing.next()) is not None:
        buffer, size, plain_size = found
        add(buffer.sealed[:size], buffer)
        task.advance(plain_size)
        reading.append(buffer)
        if len(reading) > _BEHIND:
            done = reading.popleft()
            for each in done.used_by:
                each.result()
            done.used_by = []
            sealing.release(done)
    if leaf:
        hash_leaf()
    return FileDigests(whole.digest(), b"".join(each.result() for each in leaves))


def _digest(parts: Sequence[memoryview]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _segment(descriptor: int, file: SourceFile, start: int, buffer: memoryview) -> memoryview:
    """Read the segment of `file` at `start` into `buffer`. Raises SourceChangedError when it ends."""
    data = buffer[: min(_SEGMENT, file.stamp.size - start)]
    if (count := read_into(descriptor, data, start)) != len(data):
        raise source_file.changed(file, start + count)
    return data
