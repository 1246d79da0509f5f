"""The single pass over the bytes: the sha256 of every file and of every leaf.

Two threads hash in parallel, and each reads for itself: one hashes whole files, the other their leaves. The
second read of a span comes from the page cache, which costs less than passing buffers between threads;
`_Lockstep` keeps the threads close enough for that. A span is read for its leaves first and for its file's
sum afterwards: when a later reading of the leaf, such as its delivery, finds the bytes of its digest, then
the sum was computed from the same bytes, even in a file that is written through a memory map meanwhile. A
file of one leaf is hashed once, because its leaf and its sum are the same. The thread that has finished the
leaves takes over sums. Without sums, both share the leaves.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition, Lock
from typing import TypeVar

from reconciler.content import profile, source_file
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.unixfs_tree import DIGEST_SIZE, leaf_count
from reconciler.progress import Task

_BUFFER = 1 << 19  # bytes of a read: small enough to stay in the cache of a core until they are hashed
_SEGMENT = 16  # leaves of a job
_MAX_LEAD = 64 << 20  # bytes that one thread may be ahead of the other


@dataclass(frozen=True, slots=True)
class FileDigests:
    """The digests of one file: 32 bytes per leaf, in order; `sha256` is None when it was not requested."""

    sha256: bytes | None
    leaves: bytes


def leaf_digests(data: bytes) -> bytes:
    """Return the digests of the leaves of a file with these bytes: 32 bytes for each, in order."""
    starts = range(0, max(1, len(data)), profile.CHUNK_SIZE)
    return b"".join(hashlib.sha256(data[start : start + profile.CHUNK_SIZE]).digest() for start in starts)


def hash_files(
    listing: SourceListing,
    files: Sequence[SourceFile],
    *,
    sums: bool,
    task: Task,
    done: Callable[[SourceFile, FileDigests], None],
) -> None:
    """Hash `files` of `listing`; call `done` for each when it is finished, from one thread at a time.

    Progress counts every byte of every file once. Raises SourceChangedError or BundleError with the name of
    the file, and does not call `done` afterwards.
    """
    _HashingPass(listing, files, sums, task, done).run()


class _HashingStoppedError(Exception):
    """The other thread failed."""


class _FileInProgress:
    """A file that is partly hashed, and the number of its jobs that are left."""

    def __init__(self, file: SourceFile, with_sum: bool) -> None:
        self.file = file
        self.leaves = bytearray(DIGEST_SIZE * leaf_count(file.stamp.size))
        self.sha256: bytes | None = None
        self.jobs = with_sum + -(-leaf_count(file.stamp.size) // _SEGMENT)


class _HashingPass:
    """One call of `hash_files`: the jobs that are left, and the two threads."""

    def __init__(
        self,
        listing: SourceListing,
        files: Sequence[SourceFile],
        sums: bool,
        task: Task,
        done: Callable[[SourceFile, FileDigests], None],
    ) -> None:
        self._listing = listing
        self._with_sums = sums
        self._task = task
        self._done = done
        self._finishing = Lock()
        self._lockstep = _Lockstep(_MAX_LEAD)
        # Small files come last: they need no lockstep and balance the rest of the work between the threads.
        large = [file for file in files if file.stamp.size > profile.CHUNK_SIZE]
        small = [file for file in files if file.stamp.size <= profile.CHUNK_SIZE]
        opens = [_FileInProgress(file, sums) for file in large]
        self._sums = deque(opens if sums else ())
        self._segments = deque(
            (each, first) for each in opens for first in range(0, leaf_count(each.file.stamp.size), _SEGMENT)
        )
        self._small = deque(small)

    def run(self) -> None:
        with ThreadPoolExecutor(2, thread_name_prefix="hash") as threads:
            try:
                running = [
                    threads.submit(self._work, self._hash_sums, self._hash_segments),
                    threads.submit(self._work, self._hash_segments, self._hash_sums),
                ]
                errors = [error for each in running if (error := each.exception()) is not None]
            finally:
                self._lockstep.stop()
        for error in sorted(errors, key=lambda error: isinstance(error, _HashingStoppedError)):
            raise error

    def _work(self, *kinds: Callable[[_ReadBuffer], None]) -> None:
        buffer = _ReadBuffer()
        try:
            for kind in (*kinds, self._hash_small):
                kind(buffer)
        except BaseException:
            self._lockstep.stop()
            raise

    def _hash_sums(self, buffer: _ReadBuffer) -> None:
        while (each := _next(self._sums)) is not None:
            digest = hashlib.sha256()
            with source_file.opened(self._listing, each.file) as descriptor:
                for start in range(0, each.file.stamp.size, profile.CHUNK_SIZE):
                    size = min(profile.CHUNK_SIZE, each.file.stamp.size - start)
                    self._lockstep.follow(size)
                    buffer.feed(descriptor, each.file, start, size, digest.update)
                    self._lockstep.advance(_SUMS, size)
            each.sha256 = digest.digest()
            self._finish_job(each)
        self._lockstep.leave(_SUMS)

    def _hash_segments(self, buffer: _ReadBuffer) -> None:
        while (job := _next(self._segments)) is not None:
            each, first = job
            total = each.file.stamp.size
            with source_file.opened(self._listing, each.file) as descriptor:
                for leaf in range(first, min(first + _SEGMENT, leaf_count(total))):
                    start = leaf * profile.CHUNK_SIZE
                    size = min(profile.CHUNK_SIZE, total - start)
                    digest = hashlib.sha256()
                    buffer.feed(descriptor, each.file, start, size, digest.update)
                    each.leaves[DIGEST_SIZE * leaf : DIGEST_SIZE * (leaf + 1)] = digest.digest()
                    self._task.advance(size)
                    self._lockstep.advance(_LEAVES, size)
            self._finish_job(each)
        self._lockstep.leave(_LEAVES)

    def _hash_small(self, buffer: _ReadBuffer) -> None:
        while (file := _next(self._small)) is not None:
            self._lockstep.check()
            digest = hashlib.sha256()
            with source_file.opened(self._listing, file) as descriptor:
                buffer.feed(descriptor, file, 0, file.stamp.size, digest.update)
            self._task.advance(file.stamp.size)
            leaf = digest.digest()
            with self._finishing:
                self._done(file, FileDigests(leaf, leaf))

    def _finish_job(self, each: _FileInProgress) -> None:
        with self._finishing:
            each.jobs -= 1
            if each.jobs == 0:
                self._done(each.file, FileDigests(each.sha256, bytes(each.leaves)))


class _ReadBuffer:
    """The read buffer of one thread."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(_BUFFER))

    def feed(
        self, descriptor: int, file: SourceFile, start: int, size: int, update: Callable[[memoryview], None]
    ) -> None:
        """Pass `size` bytes of the file from offset `start` to `update`.

        Raises SourceChangedError when the file ends earlier.
        """
        end = start + size
        while start < end:
            view = self._view[: min(_BUFFER, end - start)]
            count = os.preadv(descriptor, [view], start)
            if count == 0:
                raise source_file.changed(file, start)
            update(view[:count])
            start += count


_SUMS, _LEAVES = 0, 1


class _Lockstep:
    """Keeps the leaves ahead of the sums, by at most `length` bytes; stops both kinds when one fails."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._changed = Condition()
        self._at: list[float] = [0, 0]
        self._stopped = False

    def advance(self, kind: int, size: int) -> None:
        """Count `size` more hashed bytes of `kind`, and wait while it is too far ahead.

        Raises _HashingStoppedError.
        """
        with self._changed:
            self._at[kind] += size
            self._changed.notify_all()
            while not self._stopped and self._at[kind] - self._at[1 - kind] > self._length:
                self._changed.wait()
            if self._stopped:
                raise _HashingStoppedError

    def follow(self, size: int) -> None:
        """Wait until the leaves of the next `size` bytes are hashed, before their sum is.

        Both kinds of work take the files in the same order. Raises _HashingStoppedError.
        """
        with self._changed:
            while not self._stopped and self._at[_SUMS] + size > self._at[_LEAVES]:
                self._changed.wait()
            if self._stopped:
                raise _HashingStoppedError

    def leave(self, kind: int) -> None:
        """Mark `kind` as finished, so that the other kind does not wait for it.

        Infinity, and the difference of two infinities, compare as not ahead.
        """
        with self._changed:
            self._at[kind] = float("inf")
            self._changed.notify_all()

    def check(self) -> None:
        """Raise _HashingStoppedError when the other thread failed."""
        if self._stopped:
            raise _HashingStoppedError

    def stop(self) -> None:
        """Make both threads stop at their next check."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


_Job = TypeVar("_Job")


def _next(jobs: deque[_Job]) -> _Job | None:
    try:
        return jobs.popleft()
    except IndexError:
        return None
