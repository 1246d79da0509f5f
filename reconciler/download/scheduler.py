"""Which connection fetches which units, and how many connections each source gets. Pure.

The caller asks for work with `take`, and reports everything that happens to it, always with the time; so the
same decisions can be made for threads and for a simulation. Units without a connection are free. A connection
gets as many consecutive ones as keep it busy for some time, but near the end at most its share of the rest. A
connection that finds no free units takes over the second part of what another one still has to fetch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf

from reconciler.download.free_parts import FreeParts
from reconciler.download.limits import DEFAULT_LIMITS, DownloadLimits
from reconciler.download.pace import FAR, ConnectionPace
from reconciler.download.source_state import MOST_FAILURES, Setback, SourceState
from reconciler.download.window import UnitWindow
from reconciler.download.work import Assignment, FreePart, RunForm, UnitRun

_FIRST = 4 << 20  # bytes of a request before the rate of the source is known
_LONGEST = 256 << 20  # bytes of one request
_BUSY = 0.5  # seconds that one request should last, at least,
_BUSY_LATENCIES = 20  # and in units of the time that passes before its first byte
_TRYING = 4  # times shorter than that while a number of connections is tried
_SPARE = 1.33  # a request near the end is this much smaller than the fair share of the rest
_MOST_SINGLES = 64  # units of one batch
_MISSES = 8  # consecutive units that a source may lack before the rest goes to another one
_ATTEMPTS = 3  # requests for a single unit that may fail before another source is asked,
_CROWDED = 4  # times as many while other connections work: the source may refuse one connection too many
_WHOLE_SECONDS = 0.25  # that a directory still needs, at least, before blocks of it are requested one by one
_WASTE = 0.01  # of all bytes, that may be lost by taking over
_PATIENCE = 5.0  # seconds without a delivery, at least, after which a connection counts as stuck
_SLOWER = 4  # times as long as expected, for the same


class Scheduler:
    """The state of a download of `runs`; unit numbers are below `count`.

    `widths` are the most connections to each source, `latencies` the seconds to their first bytes as far as
    they are known, 0 where not. A source is given up after `most_failures` in a row. With `window`, units are
    given out only while they are less than that many bytes after the first one that is needed next, see
    `advance`.
    """

    def __init__(
        self,
        runs: Iterable[UnitRun],
        count: int,
        widths: Sequence[int],
        limits: DownloadLimits = DEFAULT_LIMITS,
        *,
        window: int = 0,
        latencies: Sequence[float] = (),
        most_failures: int = MOST_FAILURES,
    ) -> None:
        self.sources = [
            SourceState(ConnectionPace(min(width, limits.connections), latency), most_failures)
            for width, latency in zip(widths, latencies or [0.0] * len(widths), strict=True)
        ]
        self._overall = limits.overall
        self._done = bytearray(count)
        self._runs = list(runs)
        self.left = sum(len(run.units) for run in self._runs)  #: units that are not done
        self._free = FreeParts()
        self._suspect = False  # whether a part may have no source left
        self._window = UnitWindow(window, self._runs)
        self._size = self._window.total
        self._cut_off = 0.0  # bytes that taking over has cost
        for number, run in enumerate(self._runs):
            if run.units:
                self._free.put(FreePart(number, run, 0, len(run.units)))

    # --- questions

    @property
    def finished(self) -> bool:
        """Whether every unit is done."""
        return not self.left

    def is_done(self, unit: int) -> bool:
        """Return whether a unit was delivered."""
        return bool(self._done[unit])

    def hopeless(self) -> int | None:
        """Return a unit that no source is left for; None while there is none."""
        if not self._suspect:
            return None
        usable = {number for number, source in enumerate(self.sources) if source.usable}
        for part in self._free:
            if usable <= part.lacking:
                for unit in part.run.units[part.start : part.stop]:
                    if not self._done[unit]:
                        return unit
        self._suspect = False
        return None

    def connections(self) -> int:
        """Return the number of connections that are in use."""
        return sum(len(source.active) for source in self.sources)

    # --- events

    def take(self, number: int, now: float) -> Assignment | None:
        """Return work for one more connection to a source; None when it should have none at the moment."""
        source = self.sources[number]
        if not source.has_room(now) or self.connections() >= self._overall:
            return None
        part = self._free.pop(
            number,
            reaches=lambda part: self._window.allows(part, len(source.active)),
            last_resort=lambda part: self._is_last_resort(number, part),
        )
        part = part or self._take_over(number, now)
        if part is None:
            return None
        made = self._assign(number, part, now)
        source.active.add(made)
        return made

    def first_byte(self, assignment: Assignment, now: float) -> None:
        """Note that the response to a request begins."""
        if not assignment.first_byte:
            assignment.first_byte = now
            self.sources[assignment.source].pace.answered(now - assignment.began)

    def received(self, assignment: Assignment, size: int, now: float) -> None:
        """Count bytes that arrived over a connection, of whatever kind."""
        assignment.heard = now
        self.sources[assignment.source].pace.received(size)

    def deliver(self, assignment: Assignment, unit: int, size: int, now: float) -> bool:
        """Note that a connection has a unit, verified; return whether it is the first to have it."""
        fresh = not self._done[unit]
        assignment.moved = now
        assignment.delivered += 1
        assignment.misses = 0
        if fresh:
            self._done[unit] = 1
            self.left -= 1
            self._window.arrived(assignment.run.size(assignment.cursor, assignment.cursor + 1))
            assignment.received += size
            source = self.sources[assignment.source]
            source.failures = source.overloads = 0
            source.moved_at = now
            source.streams |= assignment.form is not RunForm.SINGLE
        self._pass_done(assignment)
        return fresh

    def wants_more(self, assignment: Assignment) -> bool:
        """Return whether a connection still has something to fetch."""
        self._pass_done(assignment)
        return assignment.cursor < assignment.stop

    def lacks(self, assignment: Assignment, unit: int) -> None:
        """Note that a source lacks a unit that was requested by itself; another one is asked."""
        assignment.misses += 1
        at = self._skip_to(assignment, unit)
        if at is not None:
            lacking = assignment.lacking | {assignment.source}
            self._free_again(assignment, at, at + 1, singly=True, lacking=lacking)
        if assignment.misses >= _MISSES:
            shy = frozenset({assignment.source})
            self._free_again(assignment, assignment.cursor, assignment.stop, singly=True, shy=shy)
            assignment.cursor = assignment.stop

    def unsupported(self, assignment: Assignment) -> None:
        """Note that a source does not answer requests of this form."""
        source = self.sources[assignment.source]
        if assignment.form is RunForm.WHOLE:
            source.whole = False
        else:
            source.ranges = False

    def release(
        self, assignment: Assignment, now: float, *, lacks_all: bool = False, same_form: bool = False
    ) -> None:
        """Note that a request has ended. What is left of it becomes free.

        With `lacks_all`, the source has nothing of it. With `same_form` the rest is requested in the same
        form; otherwise one by one, as a response should have contained it.
        """
        self.sources[assignment.source].ended(assignment, now)
        self._pass_done(assignment)
        lacking = assignment.lacking | {assignment.source} if lacks_all else assignment.lacking
        singly = assignment.singly if lacks_all or same_form else True
        self._free_again(assignment, assignment.cursor, assignment.stop, singly=singly, lacking=lacking)

    def fail(
        self,
        assignment: Assignment,
        setback: Setback,
        now: float,
        *,
        unit: int | None = None,
        pause: float | None = None,
    ) -> bool:
        """Note that a request failed, and release it; return whether the source is given up for that.

        `unit` is the one that was requested by itself; `pause` the number of seconds that the source asks
        for.
        """
        source = self.sources[assignment.source]
        before = source.usable
        source.ended(assignment, now)
        others = source.alive(now)
        source.judge(setback, assignment.began, others, now, pause)
        self._suspect |= not source.usable
        crowded = bool(others) or source.moved_at >= assignment.began
        weight = 0 if setback is Setback.OVERLOADED else 1 if crowded else _CROWDED
        if unit is not None:
            setbacks = assignment.setbacks + weight
            at = self._skip_to(assignment, unit)
            hopeless = setbacks >= _ATTEMPTS * _CROWDED or setback in (Setback.REFUSED, Setback.LIED)
            lacking = assignment.lacking | {assignment.source} if hopeless else assignment.lacking
            if at is not None:
                self._free_again(assignment, at, at + 1, singly=True, lacking=lacking, setbacks=setbacks)
            self._free_again(assignment, assignment.cursor, assignment.stop, singly=assignment.singly)
        else:
            setbacks, singly = assignment.setbacks, assignment.singly
            if not assignment.delivered and weight:
                setbacks += weight
                source.failed_stream(assignment, now)
                singly = singly or setbacks > _CROWDED or not others or setback is Setback.REFUSED
            self._pass_done(assignment)
            self._free_again(assignment, assignment.cursor, assignment.stop, singly=singly, setbacks=setbacks)
        return before and not source.usable

    def give_up(self, number: int) -> None:
        """Stop using a source."""
        self.sources[number].failures = MOST_FAILURES
        self._suspect = True

    def advance(self, unit_bytes: int) -> None:
        """Note that the first `unit_bytes` bytes of all runs are no longer needed, which moves the window."""
        self._window.used(unit_bytes)

    def tick(self, now: float) -> None:
        """Let every source adapt its number of connections; near ones get fewer while units wait."""
        if self._window.stays_full(now):
            for source in self.sources:
                if source.pace.latency < FAR:  # a far one needs them again when the units are used faster
                    source.pace.unneeded(now)
        rate = sum(source.pace.rate for source in self.sources if source.usable)
        left = self._free.size / rate if rate else inf
        for source in self.sources:
            if source.usable and now >= source.paused_until:
                source.pace.tick(now, len(source.active), left)

    # --- free parts

    def _free_again(
        self,
        assignment: Assignment,
        start: int,
        stop: int,
        *,
        singly: bool,
        lacking: frozenset[int] | None = None,
        shy: frozenset[int] = frozenset(),
        setbacks: int | None = None,
    ) -> None:
        """Free the units of an assignment from `start` to before `stop` that are not done."""
        run = assignment.run
        lacking = assignment.lacking if lacking is None else lacking
        setbacks = assignment.setbacks if setbacks is None else setbacks
        self._suspect |= bool(lacking) or not self.sources[assignment.source].usable
        at = start
        while at < stop:
            if self._done[run.units[at]]:
                at += 1
                continue
            end = at + 1
            while end < stop and not self._done[run.units[end]]:
                end += 1
            self._free.put(FreePart(assignment.number, run, at, end, singly, lacking, shy, setbacks))
            at = end

    def _is_last_resort(self, number: int, part: FreePart) -> bool:
        return all(
            not source.usable or other == number or other in part.lacking | part.shy
            for other, source in enumerate(self.sources)
        )

    # --- assignments

    def _assign(self, number: int, part: FreePart, now: float) -> Assignment:
        """Return the beginning of a free part as an assignment, and free the rest."""
        source, run = self.sources[number], part.run
        whole = part.start == 0 and part.stop == len(run.units) and run.form is RunForm.WHOLE
        if whole and source.whole and not part.singly:
            form, stop = RunForm.WHOLE, part.stop
        else:
            streams = run.form is RunForm.RANGE and source.ranges and not part.singly
            form = RunForm.RANGE if streams else RunForm.SINGLE
            most = part.stop if streams else min(part.stop, part.start + _MOST_SINGLES)
            stop = self._cut(run, part.start, most, self._share(source, part, streams=streams))
            self._free.put(replace(part, start=stop))
        return Assignment(
            number,
            part.number,
            run,
            part.start,
            stop,
            form,
            began=now,
            moved=now,
            asked=stop,
            cursor=part.start,
            heard=now,
            singly=part.singly,
            lacking=part.lacking,
            setbacks=part.setbacks,
        )

    def _share(self, source: SourceState, part: FreePart, *, streams: bool) -> int:
        """Return the bytes that one request, or one batch, should have."""
        connections = sum(min(each.pace.allowed, self._overall) for each in self.sources if each.usable)
        share = int((self._free.size + part.size) / (_SPARE * max(1, connections)))
        rate = source.rate or source.pace.rate / source.pace.allowed
        if rate:
            shorter = _TRYING if source.pace.is_trying else 1
            seconds = max(_BUSY, _BUSY_LATENCIES * source.pace.latency) / shorter
            share = min(max(share, int(rate * source.pace.latency)), int(rate * seconds))
        else:
            share = min(share, _FIRST)
        share = int(min(share, self._window.share(part, connections)))
        if streams and source.longest:
            share = min(share, source.longest)
        return min(share, _LONGEST)

    @staticmethod
    def _cut(run: UnitRun, start: int, stop: int, size: int) -> int:
        """Return the index after the last unit of at most `size` bytes, and of at least one unit."""
        low, high = start + 1, stop
        while low < high:
            middle = (low + high + 1) // 2
            if run.size(start, middle) <= size:
                low = middle
            else:
                high = middle - 1
        return low

    # --- the end: taking over

    def _take_over(self, number: int, now: float) -> FreePart | None:
        """Return the end of what another connection still has to fetch, which is taken from it."""
        thief = self.sources[number]
        best: tuple[float, Assignment] | None = None
        for source in self.sources:
            for other in source.active:
                if number not in other.lacking and other.cursor < other.stop:
                    seconds = self._stuck_for(source, other, now) or self._worth(source, other, thief, now)
                    if seconds > 0 and (best is None or seconds > best[0]):
                        best = seconds, other
        return None if best is None else self._split(best[1], thief, now)

    def _worth(self, source: SourceState, other: Assignment, thief: SourceState, now: float) -> float:
        """Return the seconds that a connection still needs, 0 when taking over a part brings nothing."""
        if other.stop - other.cursor < 2:
            return 0.0
        rate = source.rate or thief.rate
        if other.form is RunForm.WHOLE:  # a directory in one response: the alternative is block by block
            if not other.received or now <= other.first_byte:
                return 0.0
            rate = other.received / (now - other.first_byte)
        seconds = other.remaining / max(1.0, rate)
        least = _WHOLE_SECONDS if other.form is RunForm.WHOLE else 0.0
        if (
            self._window.is_limited and self._free.size
        ):  # what is left waits for the window: only a slow one holds that up
            least = max(least, _BUSY)
        if seconds <= max(least, thief.pace.latency):
            return 0.0  # it is finished before a new request gets its first byte
        return seconds if self._cut_off + self._cost(source, other) <= _WASTE * self._size else 0.0

    @staticmethod
    def _cost(source: SourceState, other: Assignment) -> float:
        """Return the bytes on their way that are lost when a connection is closed within a response."""
        return 0.0 if other.form is RunForm.SINGLE else source.rate * source.pace.latency

    def _stuck_for(self, source: SourceState, other: Assignment, now: float) -> float:
        """Return how long a connection has delivered nothing, 0 while that can be expected."""
        silent = now - other.moved
        expected = other.run.size(other.cursor, other.cursor + 1) / source.rate if source.rate else 0.0
        return silent if silent > max(_PATIENCE, _SLOWER * expected) else 0.0

    def _split(self, victim: Assignment, thief: SourceState, now: float) -> FreePart:
        source = self.sources[victim.source]
        if self._stuck_for(source, victim, now):
            cut = victim.cursor  # all of it; the first to have it delivers
        else:
            spare = victim.stop - victim.cursor - 1
            count = max(1, min(spare, round(spare * self._part(victim, source, thief, now))))
            if victim.form is not RunForm.RANGE:
                count = min(count, _MOST_SINGLES)
            cut = victim.stop - count
            self._cut_off += self._cost(source, victim)
        stop, victim.stop = victim.stop, cut
        return FreePart(
            victim.number, victim.run, cut, stop, victim.singly, victim.lacking, setbacks=victim.setbacks
        )

    @staticmethod
    def _part(victim: Assignment, source: SourceState, thief: SourceState, now: float) -> float:
        """Return the share of what is left that lets both end at the same time."""
        if victim.form is RunForm.WHOLE:
            mine = (now - victim.first_byte) / max(1, victim.delivered)
            return mine / (2 * mine + thief.pace.latency)
        return thief.rate / (thief.rate + source.rate) if thief.rate and source.rate else 0.5

    # --- assignments in progress

    def _skip_to(self, assignment: Assignment, unit: int) -> int | None:
        """Pass `unit`, and free the units before it, which were not tried.

        Return its index, None when another connection has taken it over.
        """
        units = assignment.run.units
        at = next((at for at in range(assignment.cursor, assignment.stop) if units[at] == unit), None)
        stop = assignment.stop if at is None else at
        self._free_again(assignment, assignment.cursor, stop, singly=assignment.singly)
        assignment.cursor = stop if at is None else at + 1
        return at

    def _pass_done(self, assignment: Assignment) -> None:
        units, done = assignment.run.units, self._done
        while assignment.cursor < assignment.stop and done[units[assignment.cursor]]:
            assignment.cursor += 1
