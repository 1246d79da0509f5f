"""Blocks from all sources at once: each takes the next piece of work, and the work of one that fails goes on.

The work is cut into jobs (`jobs.py`). When all of it is given out, an idle source takes over what a slow one
is taking long for; whichever verified block comes first is kept.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from reconciler.consume.jobs import SHORTEST_RUN, Job, cut_jobs
from reconciler.consume.peers import SourcePool, TrackedSource
from reconciler.consume.sources import LANES, BadBlockError, Parts, Streams, Stretch
from reconciler.consume.wanted import WantedFiles
from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailableError, ReconcilerError

_LONGEST_RUN = 256  # leaves
_TURNS = 4  # jobs for each source at least, so that the faster ones do more of them
_PATIENCE = 5.0  # seconds after which an idle source may take over another's job
_MISSES = 8  # blocks in a row that a source may lack before its job goes to another
_GRACE = 1.0  # seconds for calls under way when everything is there
_UNDER_WAY = 4  # blocks of a stream that wait to be hashed and written
_STRAY = 16  # blocks in one stream that nobody asked for


class _TransferStoppedError(Exception):
    pass


class Transfer:
    """Fetches the blocks in `missing` (layout position and places still lacking it).

    `keep` is called with every verified block, from several threads, each position once. What it raises ends
    the transfer. `run` raises that, BlockUnavailableError when no source has a block, DataError.
    """

    def __init__(
        self,
        wanted: WantedFiles,
        missing: Mapping[int, int],
        peers: SourcePool,
        keep: Callable[[int, Parts], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = wanted
        self._layout = wanted.map.layout
        self._peers = peers
        self._keep = keep
        self._clock = clock
        self._missing = set(missing)
        turns = _TURNS * len(peers.all)
        run = max(SHORTEST_RUN, min(len(missing) // turns, _LONGEST_RUN))
        self._jobs = cut_jobs(wanted, missing, run)
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="verify")
        self._stopped = False

    def run(self) -> None:
        """Fetch everything, or raise. Sources are closed afterwards, which ends calls still on their way."""
        threads = [
            threading.Thread(target=self._work, args=(number, peer, lane), daemon=True, name=peer.source.name)
            for number, peer in enumerate(self._peers.all)
            for lane in range(LANES)
        ]
        self._check()
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
        """Let calls that are nearly done end by themselves, and cut off the others."""
        started = [thread for thread in threads if thread.ident is not None]
        for seconds in (_GRACE, 2.0):
            end = time.monotonic() + seconds
            for thread in started:
                thread.join(max(0.0, end - time.monotonic()))
            self._peers.close()
        self._pool.shutdown(cancel_futures=True)

    def _work(self, number: int, peer: TrackedSource, lane: int) -> None:
        while (job := self._take(number, peer, lane)) is not None:
            try:
                self._fetch(peer, job)
            except _TransferStoppedError:
                return
            except BlockUnavailableError as error:
                self._peers.note_missing(peer, error)
                job.tried.add(number)
            except ReconcilerError as error:
                if not self._stopped:
                    self._peers.strike(peer, error)
            except BaseException as error:  # noqa: BLE001  a bug, or a connection closed under us
                self._fail(error)
            finally:
                with self._changed:
                    job.running.discard(number)
                    job.positions = array("Q", (each for each in job.positions if each in self._missing))
                    if job in self._jobs and not (job.positions and (job.running or job.run)):
                        self._jobs.remove(job)
                        self._jobs += job.parts()
                    self._changed.notify_all()
            self._check()

    def _take(self, number: int, peer: TrackedSource, lane: int) -> Job | None:
        """The next job for a source, waiting for one to be given back; None when there will be none."""
        with self._changed:
            while not self._stopped and self._failure is None and peer.alive:
                mine = [job for job in self._jobs if number not in job.tried]
                if not mine:
                    return None
                if lane >= peer.source.width:
                    # A stream fills the line; single blocks are small, and each waits for its answer.
                    mine = [job for job in mine if job.run is None]
                job = next((job for job in mine if not job.running), None)
                if job is None:
                    late = self._clock() - _PATIENCE
                    job = next((job for job in mine if number not in job.running and job.since < late), None)
                if job is not None:
                    job.running.add(number)
                    job.since = self._clock()
                    return job
                self._changed.wait(0.5)
        return None

    def _fetch(self, peer: TrackedSource, job: Job) -> None:
        source, run = peer.source, job.run
        if run is not None and isinstance(source, Streams):
            stretch = run.stretch(self._layout)
            job.run = None  # what this does not bring is asked for block by block
            with source.stretch(stretch) as blocks:
                if blocks is not None:
                    self._receive(peer, stretch, blocks)
        lacking: BlockUnavailableError | None = None
        misses = 0
        # Who takes over begins at the end, so that the two meet and do not do the same.
        for position in reversed(job.positions) if len(job.running) > 1 else job.positions:
            if position not in self._missing:
                continue
            cid = self._layout.cid(position)
            try:
                block = source.read_block(cid, self._layout.block_size(position))
            except BlockUnavailableError as error:
                lacking, misses = error, misses + 1
                if misses == _MISSES:
                    break
            else:
                misses = 0
                self._accept(peer, position, (block,))
        if lacking is not None:
            raise lacking

    def _receive(self, peer: TrackedSource, stretch: Stretch, blocks: Iterable[tuple[Cid, Parts]]) -> None:
        """Take what is wanted of a stream; hashing and writing go on while the next block comes in."""
        wanted, stray = set(stretch.blocks), 0
        under_way: deque[Future[None]] = deque()
        try:
            for cid, data in blocks:
                if cid in wanted:
                    if len(under_way) == _UNDER_WAY:
                        under_way.popleft().result()
                    under_way.append(self._pool.submit(self._verify, peer, cid, data))
                elif cid not in self._wanted.map.tree:
                    stray += 1
                    if stray > _STRAY:
                        raise BadBlockError(peer.source.name, cid, "sent what nobody asked for, such as")
        finally:
            wait(under_way)  # what was good before it broke off is kept
        for future in under_way:
            future.result()

    def _verify(self, peer: TrackedSource, cid: Cid, data: Parts) -> None:
        if not cid.matches(*data):
            raise BadBlockError(peer.source.name, cid)
        position = self._layout.find(cid)
        assert position is not None  # noqa: S101  the stretch was made from this layout
        self._accept(peer, position, data)

    def _accept(self, peer: TrackedSource, position: int, block: Parts) -> None:
        with self._changed:
            if self._stopped:
                raise _TransferStoppedError
            if position not in self._missing:
                return
            self._missing.discard(position)
        self._peers.credit(peer, sum(map(len, block)))
        try:
            self._keep(position, block)
        except Exception as error:  # noqa: BLE001  raised where everybody waits
            self._fail(error)
            raise _TransferStoppedError from None
        with self._changed:
            if not self._missing:
                self._changed.notify_all()

    def _check(self) -> None:
        """End it when there is work that no source is left for."""
        with self._changed:
            alive = {number for number, peer in enumerate(self._peers.all) if peer.alive}
            for job in self._jobs:
                if not job.running and not alive - job.tried:
                    position = next((each for each in job.positions if each in self._missing), None)
                    if position is not None and self._failure is None and not self._stopped:
                        what = f"block {self._layout.cid(position)} ({self._wanted.map.locate(position)})"
                        self._failure = self._peers.unavailable(what)
                        self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if not self._stopped and self._failure is None:
                self._failure = error
            self._changed.notify_all()
