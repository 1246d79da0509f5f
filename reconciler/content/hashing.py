"""The one pass over the bytes: the sha256 of every file and of every leaf.

Two threads hash side by side, each reading for itself: one goes through the whole files, the other through
their leaves, and the second read of a span comes from the page cache, which costs less than handing buffers
over. A leash keeps them close enough for that. A file of one leaf is hashed once, for its leaf and its sum
are the same. When a thread runs out of its own kind of work it takes up the other's. Without sums both share
the leaves.
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
from reconciler.content.layout import DIGEST_SIZE, leaf_count
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.progress import Task

_BUFFER = 1 << 19  # bytes a read: few enough to stay in a core's own cache between reading and hashing
_SEGMENT = 16  # leaves a job
_LEASH = 64 << 20  # bytes that one thread may be ahead of the other


@dataclass(frozen=True, slots=True)
class FileDigests:
    """What one file hashed to: 32 bytes per leaf, in order; `sha256` is None when it was not asked for."""

    sha256: bytes | None
    leaves: bytes


def hash_files(
    listing: SourceListing,
    files: Sequence[SourceFile],
    *,
    sums: bool,
    task: Task,
    done: Callable[[SourceFile, FileDigests], None],
) -> None:
    """Hash `files` of `listing`; `done` is called for each as it is finished, from one thread at a time.

    Progress counts every byte of every file once. Raises SourceChanged or BundleError, naming the file, and
    then calls `done` no more.
    """
    _Pass(listing, files, sums, task, done).run()


class _HashingStoppedError(Exception):
    pass


class _Open:
    """A file on its way: what is hashed of it so far."""

    def __init__(self, file: SourceFile, with_sum: bool) -> None:
        self.file = file
        self.leaves = bytearray(DIGEST_SIZE * leaf_count(file.stamp.size))
        self.sha256: bytes | None = None
        self.jobs = with_sum + -(-leaf_count(file.stamp.size) // _SEGMENT)


class _Pass:
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
        self._leash = _Lockstep(_LEASH)
        # Small files come last: they need no leash, and they even out what is left over between the threads.
        large = [file for file in files if file.stamp.size > profile.CHUNK_SIZE]
        small = [file for file in files if file.stamp.size <= profile.CHUNK_SIZE]
        opens = [_Open(file, sums) for file in large]
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
                self._leash.stop()
        for error in sorted(errors, key=lambda error: isinstance(error, _HashingStoppedError)):
            raise error

    def _work(self, *kinds: Callable[[_Buffer], None]) -> None:
        buffer = _Buffer()
        try:
            for kind in (*kinds, self._hash_small):
                kind(buffer)
        except BaseException:
            self._leash.stop()
            raise

    def _hash_sums(self, buffer: _Buffer) -> None:
        while (each := _next(self._sums)) is not None:
            digest = hashlib.sha256()
            with source_file.opened(self._listing, each.file) as descriptor:
                for start in range(0, each.file.stamp.size, profile.CHUNK_SIZE):
                    size = min(profile.CHUNK_SIZE, each.file.stamp.size - start)
                    buffer.feed(descriptor, each.file, start, size, digest.update)
                    self._leash.advance(_SUMS, size)
            each.sha256 = digest.digest()
            self._finish_job(each)
        self._leash.leave(_SUMS)

    def _hash_segments(self, buffer: _Buffer) -> None:
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
                    self._leash.advance(_LEAVES, size)
            self._finish_job(each)
        self._leash.leave(_LEAVES)

    def _hash_small(self, buffer: _Buffer) -> None:
        while (file := _next(self._small)) is not None:
            self._leash.check()
            digest = hashlib.sha256()
            with source_file.opened(self._listing, file) as descriptor:
                buffer.feed(descriptor, file, 0, file.stamp.size, digest.update)
            self._task.advance(file.stamp.size)
            leaf = digest.digest()
            with self._finishing:
                self._done(file, FileDigests(leaf, leaf))

    def _finish_job(self, each: _Open) -> None:
        with self._finishing:
            each.jobs -= 1
            if each.jobs == 0:
                self._done(each.file, FileDigests(each.sha256, bytes(each.leaves)))


class _Buffer:
    """One thread's read buffer."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(_BUFFER))

    def feed(
        self, descriptor: int, file: SourceFile, start: int, size: int, update: Callable[[memoryview], None]
    ) -> None:
        """Pass `size` bytes of the file from `start` on to `update`.

        Raises SourceChanged when it ends before.
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
    """Lets the two kinds of work run at most `length` bytes apart, and stops both when one fails."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._changed = Condition()
        self._at: list[float] = [0, 0]
        self._stopped = False

    def advance(self, kind: int, size: int) -> None:
        """`size` more bytes of `kind` are hashed; waits while it is too far ahead.

        Raises _HashingStoppedError.
        """
        with self._changed:
            self._at[kind] += size
            self._changed.notify_all()
            while not self._stopped and self._at[kind] - self._at[1 - kind] > self._length:
                self._changed.wait()
            if self._stopped:
                raise _HashingStoppedError

    def leave(self, kind: int) -> None:
        """No more of `kind` is left to begin; nobody waits for it any longer.

        Infinity, and the difference of two infinities, compare as not ahead.
        """
        with self._changed:
            self._at[kind] = float("inf")
            self._changed.notify_all()

    def check(self) -> None:
        """Raises _HashingStoppedError when the other thread failed."""
        if self._stopped:
            raise _HashingStoppedError

    def stop(self) -> None:
        """Make both threads end soon."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


_Job = TypeVar("_Job")


def _next(jobs: deque[_Job]) -> _Job | None:
    try:
        return jobs.popleft()
    except IndexError:
        return None
