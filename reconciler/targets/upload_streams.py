"""Sending to one peer in as many streams at once as pay off: the number grows while the rate grows with it.

One stream fills neither a path that limits each connection nor a node with several cores. A job is one
request. Jobs are cut as they are needed, for about two seconds of a stream each, and shorter ones at the end,
so that a broken connection costs little and all streams end together.

A failure that may pass ends its job alone, which is sent again: at once while other streams work, otherwise
after the pauses of the client and within its budget. A peer that asks for fewer requests gets fewer. Any
other failure closes the connections of all streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from threading import Condition, local

from reconciler.content.dag import DagLayout
from reconciler.download.pace import FAR, ConnectionPace
from reconciler.net.client import HttpClient
from reconciler.net.errors import RequestError, RetryLaterError
from reconciler.net.retry import LONGEST_PAUSE
from reconciler.progress import Task

MOST_STREAMS = 16  #: to one peer; each has a block in memory, and a few MiB in sockets
LARGEST_JOB = 256 << 20  #: bytes
_JOB_SECONDS = 2.0
_FIRST_JOB = {True: 8 << 20, False: 16 << 20}  # bytes before the rate of a stream is known; True: far away
_SMALLEST_JOB = {True: 2 << 20, False: 8 << 20}
_MOST_ATTEMPTS = 10  # for one job, beside others that succeed
_TICK = 0.05  # seconds
_ALIVE = 2.0  # seconds since its last bytes during which a stream counts as alive

#: sends one job; made by the owner of the work
SendJob = Callable[[], None]
#: makes the pieces of a request body, for each attempt
MakePieces = Callable[[], Iterator[bytes]]


class StreamsStoppedError(Exception):
    """Another stream failed."""


def is_far(http: HttpClient) -> bool:
    """Return whether a request to the peer takes so long that there is a network between it and us.

    A node nearby that was slow so far, as after its start, is asked once more.
    """
    return http.latency >= FAR and http.probe_latency() >= FAR


class RunCutter:
    """Positions of a layout, cut into runs of about the size that is asked for."""

    def __init__(self, layout: DagLayout, positions: Sequence[int]) -> None:
        self._layout = layout
        self._positions = positions
        self._next = 0
        self.left = sum(map(layout.block_size, positions))

    def cut(self, size: int) -> list[int]:
        """Return the next positions, of at least `size` bytes if there are so many; [] at the end."""
        run: list[int] = []
        taken = 0
        while self._next < len(self._positions) and (not run or taken < size):
            run.append(self._positions[self._next])
            taken += self._layout.block_size(run[-1])
            self._next += 1
        self.left -= taken
        return run


@dataclass(slots=True, eq=False)
class _Job:
    """A job that is being sent, or waits to be sent again."""

    send: SendJob
    attempt: int = 0
    began: float = 0.0
    moved: float = 0.0  # the moment of its last bytes
    sent: int = 0  # bytes in this attempt
    counted: int = 0  # bytes in the progress


class UploadStreams:
    """Streams to the peer behind `http`, whose calls must be sent with NO_RETRY; bytes are counted in `task`.

    A failure ends all requests of `http`, so nothing else uses it (see `HttpClient.apart`). Up to `most` are
    open. `clock` returns seconds.
    """

    def __init__(
        self,
        http: HttpClient,
        task: Task,
        *,
        most: int = MOST_STREAMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._task = task
        self._clock = clock
        self._most = most
        self._pace = ConnectionPace(most, http.latency)
        self._changed = Condition()
        self._of_thread = local()
        self._active: set[_Job] = set()
        self._again: list[_Job] = []
        self._paused_until = 0.0
        self._failures = 0  # in a row, beside which no other stream worked
        self._error: BaseException | None = None
        self.stopped = False  #: whether a stream failed for good, which ends the others
        self._rate = 0.0  # bytes per second of one stream, smoothed

    def run(self, take: Callable[[int], SendJob | None], left: Callable[[], int]) -> None:
        """Send the jobs that `take` returns when it is given a size in bytes, until it returns None.

        `left` is the number of bytes in jobs that it has not returned. Both are called by this thread alone.
        Raises the first error that cannot pass, or did not; then every stream has ended.
        """
        with ThreadPoolExecutor(self._most, thread_name_prefix="send") as pool:
            try:
                while self._advance(pool, take, left):
                    pass
            except BaseException:
                self.stopped = True
                self._http.interrupt()
                raise

    def run_one(self, send: SendJob) -> None:
        """Send a single job. Raises as `run` does."""
        jobs = [send]
        self.run(lambda _: jobs.pop() if jobs else None, lambda: 0)

    def counted(self, make: MakePieces) -> MakePieces:
        """Return `make` for the body of a job, with its pieces counted: once each in the progress.

        Iterating raises StreamsStoppedError when another stream has failed.
        """

        def pieces() -> Iterator[bytes]:
            sent = 0
            for piece in make():
                self.check()
                yield piece
                sent += len(piece)
                self._note_sent(len(piece), sent)

        return pieces

    def check(self) -> None:
        """Raise StreamsStoppedError when another stream has failed."""
        if self.stopped:
            raise StreamsStoppedError

    def _advance(
        self, pool: ThreadPoolExecutor, take: Callable[[int], SendJob | None], left: Callable[[], int]
    ) -> bool:
        """Begin what may begin, and wait for a change; return whether anything is left."""
        with self._changed:
            self._raise_failure()
            self._begin(pool, take, left)
            seconds = left() / self._pace.rate if self._pace.rate else inf
            self._pace.tick(self._clock(), len(self._active), seconds)
            self._begin(pool, take, left)
            if not (self._active or self._again):
                return False
            self._changed.wait(_TICK)
            self._raise_failure()
            return True

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise self._error

    def _begin(
        self, pool: ThreadPoolExecutor, take: Callable[[int], SendJob | None], left: Callable[[], int]
    ) -> None:
        now = self._clock()
        while now >= self._paused_until and len(self._active) < self._pace.allowed:
            job = self._again.pop() if self._again else self._new_job(take, left())
            if job is None:
                break
            job.attempt += 1
            job.began = job.moved = now
            job.sent = 0
            self._active.add(job)
            pool.submit(self._send, job)

    def _new_job(self, take: Callable[[int], SendJob | None], left: int) -> _Job | None:
        far = self._pace.latency >= FAR
        size = int(self._rate * _JOB_SECONDS) or _FIRST_JOB[far]
        size = max(_SMALLEST_JOB[far], min(size, left // (2 * self._pace.allowed)))
        send = take(min(size, LARGEST_JOB))
        return None if send is None else _Job(send)

    def _send(self, job: _Job) -> None:
        self._of_thread.job = job
        error: BaseException | None = None
        try:
            self.check()
            job.send()
        except BaseException as caught:  # noqa: BLE001  raised by `run`
            error = caught
        with self._changed:
            now = self._clock()
            self._active.discard(job)
            if error is None:
                self._failures = 0
                self._note_rate(job.sent / max(now - job.began, 0.001))
            elif not self._passes(error, job, now):
                self._error = self._error or error
                self.stopped = True
            self._changed.notify()

    def _passes(self, error: BaseException, job: _Job, now: float) -> bool:
        """Decide when a job that failed is sent again; return False when it is not."""
        if self.stopped or not isinstance(error, RequestError):
            return False
        alive = sum(now - other.moved < _ALIVE for other in self._active)
        if not error.may_retry or job.attempt >= _MOST_ATTEMPTS:
            return False
        pause = 0.0
        if isinstance(error, RetryLaterError):
            self._pace.overloaded(alive, now)
            pause = error.retry_after or 0.0
        else:
            self._pace.broke(alive, now)
        if not alive or pause > LONGEST_PAUSE:
            self._failures += 1
            wanted = self._http.pause_after(error, self._failures)
            if wanted is None:
                return False
            pause = wanted
        self._paused_until = max(self._paused_until, now + pause)
        self._again.append(job)
        return True

    def _note_sent(self, size: int, of_body: int) -> None:
        """Note that `size` more bytes were sent, `of_body` of this body."""
        job: _Job = self._of_thread.job
        with self._changed:
            self._pace.received(size)
            job.sent += size
            job.moved = self._clock()
        if of_body > job.counted:
            self._task.advance(of_body - job.counted)
            job.counted = of_body

    def _note_rate(self, rate: float) -> None:
        self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
