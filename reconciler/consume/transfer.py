"""Fetching blocks from all sources at once.

The work is divided into jobs (see `jobs`). Each source takes the next job when it is free; the job of a
source that fails goes to another one. When no job is left, an idle source also works on the job of a slow
one; the first verified copy of each block is kept.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from reconciler.consume.selection import SelectedFiles
from reconciler.consume.sources import (
    MAX_CALLS,
    BadBlockError,
    BlockRange,
    Parts,
    SourcePool,
    StreamingSource,
    TrackedSource,
)
from reconciler.consume.transfer_jobs import SHORTEST_RUN, Job, make_jobs
from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailableError, ReconcilerError

_LONGEST_RUN = 256  # leaves
_JOBS_PER_SOURCE = 4  # minimum, so that faster sources do more of them
_PATIENCE = 5.0  # seconds after which an idle source may join another's job
_MISSES = 8  # consecutive blocks that a source may lack before its job goes to another
_GRACE = 1.0  # seconds that calls in progress are given at the end
_QUEUED = 4  # blocks of a stream that wait to be hashed and written
_STRAY = 16  # unrequested blocks that one stream may contain


class _TransferStoppedError(Exception):
    """The transfer ended while a thread was working for it."""


class Transfer:
    """A transfer of the blocks in `missing` (layout position: number of spans that lack the block).

    `keep` is called with every verified block, from several threads, once for each position. An error that it
    raises ends the transfer. `run` raises that error, BlockUnavailableError when no source has a block, and
    DataError.
    """

    def __init__(
        self,
        selected: SelectedFiles,
        missing: Mapping[int, int],
        peers: SourcePool,
        keep: Callable[[int, Parts], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._selected = selected
        self._layout = selected.map.layout
        self._peers = peers
        self._keep = keep
        self._clock = clock
        self._missing = set(missing)
        jobs = _JOBS_PER_SOURCE * len(peers.all)
        longest = max(SHORTEST_RUN, min(len(missing) // jobs, _LONGEST_RUN))
        self._jobs = make_jobs(selected, missing, longest)
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="verify")
        self._stopped = False

    def run(self) -> None:
        """Fetch everything, or raise. Closes the sources at the end, which aborts calls in progress."""
        threads = [
            threading.Thread(target=self._work, args=(number, peer, slot), daemon=True, name=peer.source.name)
            for number, peer in enumerate(self._peers.all)
            for slot in range(MAX_CALLS)
        ]
        self._check_sources()
        try:
            for thread in threads:
                thread.start()
            with self._changed:
                while self._missing and self._failure is None:
                    self._changed.wait(0.5)  # a bounded wait lets a signal through
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            self._end(threads)
        if self._failure is not None:
            raise self._failure

    def _end(self, threads: Iterable[threading.Thread]) -> None:
        """Let calls that are nearly finished complete, and abort the others."""
        started = [thread for thread in threads if thread.ident is not None]
        for seconds in (_GRACE, 2.0):
            end = time.monotonic() + seconds
            for thread in started:
                thread.join(max(0.0, end - time.monotonic()))
            self._peers.close()
        self._pool.shutdown(cancel_futures=True)

    def _work(self, number: int, peer: TrackedSource, slot: int) -> None:
        """Work on jobs until there are none left for this source. Runs in a thread."""
        while (job := self._next_job(number, peer, slot)) is not None:
            try:
                self._fetch(peer, job)
            except _TransferStoppedError:
                return
            except BlockUnavailableError as error:
                self._peers.note_missing(peer, error)
                job.tried.add(number)
            except ReconcilerError as error:
                if not self._stopped:
                    self._peers.count_failure(peer, error)
            except BaseException as error:  # noqa: BLE001  a bug, or a connection closed during a call
                self._fail(error)
            finally:
                with self._changed:
                    job.running.discard(number)
                    job.positions = array("Q", (each for each in job.positions if each in self._missing))
                    if job in self._jobs and not (job.positions and (job.running or job.run)):
                        self._jobs.remove(job)
                        self._jobs += job.split()
                    self._changed.notify_all()
            self._check_sources()

    def _next_job(self, number: int, peer: TrackedSource, slot: int) -> Job | None:
        """Return the next job for a source, waiting until one is available; None when there will be none."""
        with self._changed:
            while not self._stopped and self._failure is None and peer.usable:
                suitable = [job for job in self._jobs if number not in job.tried]
                if not suitable:
                    return None
                if slot >= peer.source.width:
                    # A stream uses the full bandwidth; single blocks are small, each waits for a response.
                    suitable = [job for job in suitable if job.run is None]
                job = next((job for job in suitable if not job.running), None)
                if job is None:
                    late = self._clock() - _PATIENCE
                    job = next(
                        (job for job in suitable if number not in job.running and job.since < late), None
                    )
                if job is not None:
                    job.running.add(number)
                    job.since = self._clock()
                    return job
                self._changed.wait(0.5)
        return None

    def _fetch(self, peer: TrackedSource, job: Job) -> None:
        """Fetch the missing blocks of a job from one source.

        Raises BlockUnavailableError when the source lacks one of them, and what the source raises.
        """
        source, run = peer.source, job.run
        if run is not None and isinstance(source, StreamingSource):
            requested = run.expand(self._layout)
            job.run = None  # blocks that the stream does not deliver are requested one by one
            with source.stream_blocks(requested) as blocks:
                if blocks is not None:
                    self._receive(peer, requested, blocks)
        unavailable: BlockUnavailableError | None = None
        misses = 0
        # A source that joins a job begins at its end, so that the two do not fetch the same blocks.
        for position in reversed(job.positions) if len(job.running) > 1 else job.positions:
            if position not in self._missing:
                continue
            cid = self._layout.cid(position)
            try:
                block = source.read_block(cid, self._layout.block_size(position))
            except BlockUnavailableError as error:
                unavailable, misses = error, misses + 1
                if misses == _MISSES:
                    break
            else:
                misses = 0
                self._accept(peer, position, (block,))
        if unavailable is not None:
            raise unavailable

    def _receive(
        self, peer: TrackedSource, requested: BlockRange, blocks: Iterable[tuple[Cid, Parts]]
    ) -> None:
        """Accept the requested blocks of a stream; hashing and writing overlap with receiving.

        Raises BadBlockError for wrong bytes and for too many unrequested blocks.
        """
        expected, stray = set(requested.blocks), 0
        queued: deque[Future[None]] = deque()
        try:
            for cid, data in blocks:
                if cid in expected:
                    if len(queued) == _QUEUED:
                        queued.popleft().result()
                    queued.append(self._pool.submit(self._verify, peer, cid, data))
                elif cid not in self._selected.map.tree:
                    stray += 1
                    if stray > _STRAY:
                        raise BadBlockError(peer.source.name, cid, "sent unrequested blocks, such as")
        finally:
            wait(queued)  # the good blocks before an interruption are kept
        for future in queued:
            future.result()

    def _verify(self, peer: TrackedSource, cid: Cid, data: Parts) -> None:
        if not cid.matches(*data):
            raise BadBlockError(peer.source.name, cid)
        position = self._layout.find(cid)
        assert position is not None  # noqa: S101  the range was made from this layout
        self._accept(peer, position, data)

    def _accept(self, peer: TrackedSource, position: int, block: Parts) -> None:
        """Keep a verified block, unless another source delivered it first."""
        with self._changed:
            if self._stopped:
                raise _TransferStoppedError
            if position not in self._missing:
                return
            self._missing.discard(position)
        self._peers.count_block(peer, sum(map(len, block)))
        try:
            self._keep(position, block)
        except Exception as error:  # noqa: BLE001  raised by `run`
            self._fail(error)
            raise _TransferStoppedError from None
        with self._changed:
            if not self._missing:
                self._changed.notify_all()

    def _check_sources(self) -> None:
        """Fail the transfer when a job has no source left."""
        with self._changed:
            usable = {number for number, peer in enumerate(self._peers.all) if peer.usable}
            for job in self._jobs:
                if not job.running and not usable - job.tried:
                    position = next((each for each in job.positions if each in self._missing), None)
                    if position is not None and self._failure is None and not self._stopped:
                        location = self._selected.map.locate(position)
                        what = f"block {self._layout.cid(position)} ({location})"
                        self._failure = self._peers.unavailable(what)
                        self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        """End the transfer with `error`."""
        with self._changed:
            if not self._stopped and self._failure is None:
                self._failure = error
            self._changed.notify_all()
