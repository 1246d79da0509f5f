"""The single pass over the bytes: the sha256 of every file and of every leaf.

As many threads hash as `workers` says. The sum of a file is one stream, so each large file has one thread
that computes it, its owner. The owner hashes each leaf from the same buffer on its way, so every byte is read
once; a thread without a file of its own hashes leaves ahead of an owner, which then reads them again, from
the page cache, for the sum alone. That way the time is the larger of two limits: all work divided by the
number of threads, and the sum of the largest file.

A span is read for its leaves first and for its file's sum afterwards, or for both at once: when a later
reading of the leaf, such as its delivery, finds the bytes of its digest, then the sum was computed from the
same bytes, even in a file that is written through a memory map meanwhile. A file of one leaf is hashed once,
because its leaf and its sum are the same.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Lock
from typing import NamedTuple

from reconciler.content import profile, source_file, workers
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.unixfs_tree import DIGEST_SIZE, leaf_count
from reconciler.progress import Task

_BUFFER = 1 << 20  # bytes of a read: small enough to stay in the cache of a core until they are hashed
_TINY = 64 << 10  # bytes; opening a smaller file takes about as long as hashing it
_SEGMENT = 16  # leaves that a thread takes at once at most
_MAX_LEAD = 64  # leaves that other threads may be ahead of the owner: what they read must stay in memory


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
    parallel = workers.reads_in_parallel(listing.root)
    threads = workers.threads_for(listing.root)
    _HashingPass(listing, task, done, _Schedule(files, sums, threads, one_place=not parallel)).run(threads)


class _HashingStoppedError(Exception):
    """Another thread failed."""


class _FileInProgress:
    """A file of several leaves that is partly hashed. Leaves are taken in order, and may end out of order."""

    def __init__(self, file: SourceFile, with_sum: bool) -> None:
        self.file = file
        self.count = leaf_count(file.stamp.size)
        self.leaves = bytearray(DIGEST_SIZE * self.count)
        self.hashed = bytearray(self.count)  # 1 for each leaf that was
        self.sha256: bytes | None = None
        self.taken = 0  # leaves
        self.summed = 0 if with_sum else self.count  # leaves that are in the sum
        self.jobs = int(with_sum)  # in progress

    @property
    def rest(self) -> int:
        """The work that is left, in leaves: those to take, and those to add to the sum."""
        return 2 * self.count - self.taken - self.summed

    def span(self, leaf: int) -> tuple[int, int]:
        """Return where a leaf begins, and its size."""
        start = leaf * profile.CHUNK_SIZE
        return start, min(profile.CHUNK_SIZE, self.file.stamp.size - start)


class _LeafRun(NamedTuple):
    """Leaves `first` to `stop` (exclusive) of a file, taken by one thread."""

    each: _FileInProgress
    first: int
    stop: int


class _Schedule:
    """Who hashes what. Every method may be called from any thread.

    `threads` is their number. With `one_place`, no file is begun while there are leaves to take in another.
    Every method that waits raises _HashingStoppedError after `stop`.
    """

    def __init__(self, files: Sequence[SourceFile], sums: bool, threads: int, *, one_place: bool) -> None:
        large = [file for file in files if file.stamp.size > profile.CHUNK_SIZE]
        if not one_place:  # the largest first, so that no long sum is left at the end
            large.sort(key=lambda file: file.stamp.size, reverse=True)
        self._threads = threads
        self._one_place = one_place
        self._sums = sums
        self._open: list[_FileInProgress] = []  # with leaves to take: with sums, those that have an owner
        self._large = deque(_FileInProgress(file, sums) for file in large)
        # Small files come last: they balance the rest of the work between the threads. Tiny ones are one
        # piece of work, because two threads that only open files wait for each other; unless the disk is
        # slower.
        tiny = [file for file in files if file.stamp.size <= _TINY]
        step = max(1, -(-len(tiny) // threads) if one_place else len(tiny))
        self._small = deque([tiny[first : first + step] for first in range(0, len(tiny), step)])
        self._small += [[file] for file in files if _TINY < file.stamp.size <= profile.CHUNK_SIZE]
        self._not_begun = sum(each.rest for each in self._large) + len(self._small)  # leaves, as `rest`
        self._lock = Lock()
        self._leaf_hashed = Condition(self._lock)  # owners wait for it
        self._work_free = Condition(self._lock)  # threads without work wait for it
        self._owners_waiting = self._idle = 0
        self._stopped = False

    def next(self) -> _FileInProgress | _LeafRun | list[SourceFile] | None:
        """Return the next work: a file to own, leaves, or small files. Waits; None when there is none."""
        with self._lock:
            while True:
                self.check()
                ahead = max(filter(self._is_free, self._open), key=lambda each: each.rest, default=None)
                critical = ahead is not None and (
                    self._one_place
                    or not self._sums
                    or ahead.rest * self._threads > sum(each.rest for each in self._open) + self._not_begun
                )
                begin = self._large and not (self._one_place and self._open)
                if ahead is not None and (critical or not begin):
                    ahead.jobs += 1
                    return self._take(ahead, self._run_length(ahead))
                if begin:
                    each = self._large.popleft()
                    self._not_begun -= each.rest
                    self._open.append(each)
                    if self._sums:
                        return each
                    continue
                if not self._one_place or not self._open:
                    if self._small:
                        self._not_begun -= 1
                        return self._small.popleft()
                    if not self._open:
                        return None
                self._idle += 1
                self._work_free.wait()
                self._idle -= 1

    def own(self, each: _FileInProgress) -> bool:
        """Take the next leaf of the sum of a file; return False when another thread has taken it.

        In that case, it is hashed when this returns, and the owner adds it to the sum alone.
        """
        with self._lock:
            self.check()
            if each.taken == each.summed:
                self._take(each, 1)
                return True
            while not each.hashed[each.summed]:
                self._owners_waiting += 1
                self._leaf_hashed.wait()
                self._owners_waiting -= 1
                self.check()
        return False

    def leaf_done(self, each: _FileInProgress, leaf: int) -> None:
        """Note that a leaf that was taken ahead of the owner is hashed."""
        if not self._sums:  # there is no owner
            self.check()
            return
        with self._lock:
            self.check()
            each.hashed[leaf] = 1
            if self._owners_waiting:
                self._leaf_hashed.notify_all()

    def summed(self, each: _FileInProgress) -> None:
        """Note that the sum of a file has advanced by one leaf."""
        self.check()
        each.summed += 1
        if self._idle and self._is_free(each):  # a thread that is not seen here is notified a leaf later
            with self._lock:
                self._work_free.notify()

    def job_done(self, each: _FileInProgress) -> bool:
        """Note that a run of leaves, or the sum, of a file is finished; return whether the file is."""
        with self._lock:
            self.check()
            each.jobs -= 1
            return not each.jobs and each.taken == each.count

    def check(self) -> None:
        """Raise _HashingStoppedError after `stop`."""
        if self._stopped:
            raise _HashingStoppedError

    def stop(self) -> None:
        """Make every thread stop at its next call."""
        with self._lock:
            self._stopped = True
            self._leaf_hashed.notify_all()
            self._work_free.notify_all()

    def _take(self, each: _FileInProgress, length: int) -> _LeafRun:
        first = each.taken
        each.taken += length
        if each.taken == each.count:
            self._open.remove(each)
            self._work_free.notify_all()
        return _LeafRun(each, first, each.taken)

    def _run_length(self, each: _FileInProgress) -> int:
        """Return how many leaves to take: fewer near the end, so that all threads end together."""
        left = each.count - each.taken
        return max(1, min(_SEGMENT, left // (2 * self._threads), self._room(each)))

    def _room(self, each: _FileInProgress) -> int:
        """Return how many leaves may be taken ahead of the owner."""
        left = each.count - each.taken
        return min(left, _MAX_LEAD - (each.taken - each.summed)) if self._sums else left

    def _is_free(self, each: _FileInProgress) -> bool:
        """Return whether another thread than the owner may take leaves now: several at once, or the last."""
        room = self._room(each)
        return room >= _SEGMENT or 0 < room == each.count - each.taken


class _HashingPass:
    """One call of `hash_files`: its threads, which take work from `schedule`."""

    def __init__(
        self,
        listing: SourceListing,
        task: Task,
        done: Callable[[SourceFile, FileDigests], None],
        schedule: _Schedule,
    ) -> None:
        self._listing = listing
        self._task = task
        self._done = done
        self._schedule = schedule
        self._finishing = Lock()

    def run(self, threads: int) -> None:
        with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
            try:
                running = [pool.submit(self._work) for _ in range(threads)]
                errors = [error for each in running if (error := each.exception()) is not None]
            finally:
                self._schedule.stop()
        for error in sorted(errors, key=lambda error: isinstance(error, _HashingStoppedError)):
            raise error

    def _work(self) -> None:
        buffer = _ReadBuffer()
        try:
            while (work := self._schedule.next()) is not None:
                if isinstance(work, _FileInProgress):
                    self._own(work, buffer)
                elif isinstance(work, _LeafRun):
                    self._hash_run(work, buffer)
                else:
                    for file in work:
                        self._hash_small(file, buffer)
        except BaseException:
            self._schedule.stop()
            raise

    def _own(self, each: _FileInProgress, buffer: _ReadBuffer) -> None:
        """Compute the sum of a file, and the digests of the leaves that no other thread has taken."""
        digest = hashlib.sha256()
        with source_file.opened(self._listing, each.file) as descriptor:
            for leaf in range(each.count):
                if self._schedule.own(each):
                    self._hash_leaf(each, leaf, descriptor, buffer, digest.update)
                else:
                    buffer.feed(descriptor, each.file, *each.span(leaf), digest.update)
                self._schedule.summed(each)
        each.sha256 = digest.digest()
        self._finish_job(each)

    def _hash_run(self, run: _LeafRun, buffer: _ReadBuffer) -> None:
        with source_file.opened(self._listing, run.each.file) as descriptor:
            for leaf in range(run.first, run.stop):
                self._hash_leaf(run.each, leaf, descriptor, buffer)
                self._schedule.leaf_done(run.each, leaf)
        self._finish_job(run.each)

    def _hash_leaf(
        self,
        each: _FileInProgress,
        leaf: int,
        descriptor: int,
        buffer: _ReadBuffer,
        *updates: Callable[[memoryview], None],
    ) -> None:
        start, size = each.span(leaf)
        digest = hashlib.sha256()
        buffer.feed(descriptor, each.file, start, size, digest.update, *updates)
        each.leaves[DIGEST_SIZE * leaf : DIGEST_SIZE * (leaf + 1)] = digest.digest()
        self._task.advance(size)

    def _hash_small(self, file: SourceFile, buffer: _ReadBuffer) -> None:
        digest = hashlib.sha256()
        with source_file.opened(self._listing, file) as descriptor:
            buffer.feed(descriptor, file, 0, file.stamp.size, digest.update)
        self._task.advance(file.stamp.size)
        leaf = digest.digest()
        with self._finish():
            self._done(file, FileDigests(leaf, leaf))

    def _finish_job(self, each: _FileInProgress) -> None:
        if self._schedule.job_done(each):
            with self._finish():
                self._done(each.file, FileDigests(each.sha256, bytes(each.leaves)))

    @contextmanager
    def _finish(self) -> Iterator[None]:
        with self._finishing:
            self._schedule.check()
            yield


class _ReadBuffer:
    """The read buffer of one thread."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(_BUFFER))

    def feed(
        self,
        descriptor: int,
        file: SourceFile,
        start: int,
        size: int,
        *updates: Callable[[memoryview], None],
    ) -> None:
        """Pass `size` bytes of the file from offset `start` to each of `updates`, in order.

        Raises SourceChangedError when the file ends earlier.
        """
        end = start + size
        while start < end:
            view = self._view[: end - start]
            count = os.preadv(descriptor, [view], start)
            if count == 0:
                raise source_file.changed(file, start)
            for update in updates:
                update(view[:count])
            start += count
