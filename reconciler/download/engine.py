"""A download with threads: each works on one connection, as the scheduler decides.

A fetcher carries out one request after the other. It verifies what arrives, and reports it by the `Handle` of
the request; what it keeps is written by the thread that received it, so a slow disk slows the network down,
and memory holds at most one unit for each connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from reconciler.download.limits import RateLimit
from reconciler.download.scheduler import Scheduler
from reconciler.download.source_state import Setback
from reconciler.download.work import Assignment, RunForm

_TICK = 0.025  # seconds between two decisions about the number of connections
_IDLE = 0.1  # seconds after which an idle connection looks for work again
_GRACE = 0.1  # seconds that requests in progress get at the end
_LONGEST_END = 0.6  # seconds after which threads that still wait for their peer are left behind


class DownloadStoppedError(Exception):
    """The download ended while a thread was working for it."""


class SetbackError(Exception):
    """A request failed, with `cause`.

    `unit` is the one that was requested by itself; `pause` the number of seconds that the source asks for.
    """

    def __init__(
        self, setback: Setback, cause: Exception, *, unit: int | None = None, pause: float | None = None
    ) -> None:
        super().__init__(str(cause))
        self.setback = setback
        self.cause = cause
        self.unit = unit
        self.pause = pause


class Fetcher(Protocol):
    """Access to one source. Methods are called from several threads."""

    @property
    def width(self) -> int:
        """The most connections that are worthwhile, at least 1."""

    def fetch(self, handle: Handle) -> None:
        """Carry out one request, or one after the other for units that are requested one by one.

        Raises SetbackError; every other exception ends the download, and is raised by it.
        """

    def failed(self, setback: Setback, error: Exception, *, given_up: bool) -> None:
        """Note that a request failed, and whether the source is not used any more."""


class Handle:
    """One request: what is to be fetched, and the reports about it."""

    def __init__(self, download: Download, assignment: Assignment) -> None:
        self._download = download
        self._assignment = assignment
        self.lacks_all = False
        self.same_form = False  #: whether what is left is requested in the same form, as the answer was short

    @property
    def form(self) -> RunForm:
        """How the units are requested."""
        return self._assignment.form

    @property
    def run(self) -> int:
        """The number of the run."""
        return self._assignment.number

    @property
    def span(self) -> tuple[int, int]:
        """The indices in the run of the first unit, and of the one after the last."""
        return self._assignment.cursor, self._assignment.stop

    @property
    def taken_over(self) -> bool:
        """Whether another connection fetches the rest of the request. Raises DownloadStoppedError."""
        return self._download.taken_over(self._assignment)

    def units(self) -> Iterator[int]:
        """Iterate over the units that are still to be fetched, for as long as there are any."""
        while (unit := self._download.next_unit(self._assignment)) is not None:
            yield unit

    def deliver(self, unit: int, size: int, keep: Callable[[], None]) -> bool:
        """Call `keep` for a verified unit and return True, unless another connection was first."""
        return self._download.deliver(self._assignment, unit, size, keep)

    def received(self, size: int) -> None:
        """Count bytes as they arrive; wait when there were too many. Raises DownloadStoppedError."""
        self._download.received(self._assignment, size)

    def lacks(self, unit: int) -> None:
        """Note that the source does not have a unit that was requested by itself."""
        self._download.lacks(self._assignment, unit)

    def unsupported(self) -> None:
        """Note that the source does not answer requests of this form."""
        self.same_form = True
        self._download.unsupported(self._assignment)

    def limit(self, size: int) -> None:
        """Note that the source answers with at most `size` bytes at once."""
        self.same_form = True
        self._download.limit(self._assignment, size)


class Download:
    """A download by `scheduler`, from one fetcher for each of its sources.

    `close` ends requests in progress, at the end and on an error. `hopeless` makes the error for a unit that
    no source is left for.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        fetchers: Sequence[Fetcher],
        *,
        hopeless: Callable[[int], Exception],
        close: Callable[[], None] = lambda: None,
        max_rate: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._fetchers = fetchers
        self._hopeless = hopeless
        self._close = close
        self._clock = clock
        self._rate = RateLimit(max_rate)
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._keeping = 0  # units that are being written
        self._threads: list[list[threading.Thread]] = [[] for _ in fetchers]
        self._current = threading.local()

    def run(self) -> None:
        """Fetch everything, or raise. No thread keeps anything afterwards."""
        try:
            with self._changed:
                while not (self._is_complete() or self._failure or self._over.is_set()):
                    self._step()
                    self._changed.wait(_TICK)
        except BaseException:
            self.stop()
            self._end(0.0)
            raise
        self.stop()
        self._end(_GRACE if self._failure is None else 0.0)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Let every thread end at its next report."""
        self._over.set()
        with self._changed:
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End the download with `error`."""
        with self._changed:
            if self._failure is None and not self._over.is_set():
                self._failure = error
            self._changed.notify_all()

    def meter(self, size: int) -> None:
        """Count bytes that arrived in this thread, for sources that report them as they arrive."""
        handle: Handle | None = getattr(self._current, "handle", None)
        if handle is not None:
            handle.received(size)

    def advance(self, unit_bytes: int) -> None:
        """See Scheduler.advance."""
        with self._changed:
            self._scheduler.advance(unit_bytes)
            self._changed.notify_all()

    # --- the thread of the caller

    def _is_complete(self) -> bool:
        return self._scheduler.finished and not self._keeping

    def _step(self) -> None:
        now = self._clock()
        before = sum(source.pace.allowed for source in self._scheduler.sources)
        self._scheduler.tick(now)
        if sum(source.pace.allowed for source in self._scheduler.sources) > before:
            self._changed.notify_all()
        unit = self._scheduler.hopeless()
        if unit is not None:
            self._failure = self._hopeless(unit)
            return
        for number, source in enumerate(self._scheduler.sources):
            threads = self._threads[number]
            while source.has_room(now) and len(threads) < source.pace.allowed:
                threads.append(threading.Thread(target=self._work, args=(number,), daemon=True))
                threads[-1].start()

    def _end(self, grace: float) -> None:
        """Wait for the threads, for `grace` seconds before requests in progress are ended."""
        started = [thread for threads in self._threads for thread in threads]
        for seconds in (grace, _LONGEST_END):
            end = time.monotonic() + seconds
            for thread in started:
                thread.join(max(0.0, end - time.monotonic()))
            self._close()
        end = time.monotonic() + _LONGEST_END
        with self._changed:  # a thread that is left behind finds this out before it keeps anything
            while self._keeping and time.monotonic() < end:
                self._changed.wait(_IDLE)

    # --- the threads of the connections

    def _work(self, number: int) -> None:
        while (assignment := self._next(number)) is not None:
            handle = self._current.handle = Handle(self, assignment)
            try:
                self._fetchers[number].fetch(handle)
            except DownloadStoppedError:
                return
            except SetbackError as error:
                self._note_setback(number, assignment, error)
            except BaseException as error:  # noqa: BLE001  a bug, or an error of the disk
                self.fail(error)
                return
            else:
                with self._changed:
                    self._scheduler.release(
                        assignment,
                        self._clock(),
                        lacks_all=handle.lacks_all,
                        same_form=handle.same_form,
                    )
                    self._changed.notify_all()
            finally:
                self._current.handle = None

    def _next(self, number: int) -> Assignment | None:
        """Wait for work for a connection to a source; return None when there will be none."""
        source = self._scheduler.sources[number]
        with self._changed:
            while not self._over.is_set() and self._failure is None and source.usable:
                found = self._scheduler.take(number, self._clock())
                if found is not None:
                    return found
                self._changed.wait(_IDLE)
        return None

    def _note_setback(self, number: int, assignment: Assignment, error: SetbackError) -> None:
        with self._changed:
            if self._over.is_set():
                return
            given_up = self._scheduler.fail(
                assignment, error.setback, self._clock(), unit=error.unit, pause=error.pause
            )
            self._fetchers[number].failed(error.setback, error.cause, given_up=given_up)
            self._changed.notify_all()

    # --- reports

    def taken_over(self, assignment: Assignment) -> bool:
        """See Handle.taken_over."""
        with self._changed:
            self._require_running()
            return assignment.stop < assignment.asked and not self._scheduler.wants_more(assignment)

    def next_unit(self, assignment: Assignment) -> int | None:
        """Return the first unit of an assignment that is not done, None when there is none."""
        with self._changed:
            self._require_running()
            if not self._scheduler.wants_more(assignment):
                return None
            return assignment.run.units[assignment.cursor]

    def deliver(self, assignment: Assignment, unit: int, size: int, keep: Callable[[], None]) -> bool:
        """See Handle.deliver."""
        with self._changed:
            self._require_running()
            if not self._scheduler.deliver(assignment, unit, size, self._clock()):
                return False
            self._keeping += 1
        try:
            keep()
        except Exception as error:  # noqa: BLE001  raised by `run`
            self.fail(error)
            raise DownloadStoppedError from None
        finally:
            with self._changed:
                self._keeping -= 1
                if not self._keeping and (self._scheduler.finished or self._over.is_set()):
                    self._changed.notify_all()
        return True

    def received(self, assignment: Assignment, size: int) -> None:
        """See Handle.received."""
        with self._changed:
            self._require_running()
            now = self._clock()
            self._scheduler.first_byte(assignment, now)
            self._scheduler.received(assignment, size, now)
            pause = self._rate.take(size, now)
        if pause:
            self._over.wait(pause)

    def lacks(self, assignment: Assignment, unit: int) -> None:
        """See Handle.lacks."""
        with self._changed:
            self._scheduler.lacks(assignment, unit)

    def unsupported(self, assignment: Assignment) -> None:
        """See Handle.unsupported."""
        with self._changed:
            self._scheduler.unsupported(assignment)

    def limit(self, assignment: Assignment, size: int) -> None:
        """See Handle.limit."""
        with self._changed:
            self._scheduler.sources[assignment.source].longest = size

    def _require_running(self) -> None:
        if self._over.is_set() or self._failure is not None:
            raise DownloadStoppedError
