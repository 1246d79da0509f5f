"""What the scheduler knows about one source, and when it gives the source up. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from reconciler.download.pace import ConnectionPace
from reconciler.download.work import Assignment

MOST_FAILURES = 2  #: after which a source is given up: wrong bytes at all, others in a row
LONGEST_PAUSE = 300.0  #: seconds that a source may ask for
_PAUSE = 0.25  # seconds of the first pause of a source that asks for one without a time; doubles
_RECOVERY = 0.05  # seconds of the pause after a failure beside which no connection works; doubles
_MOST_OVERLOADS = 5  # in a row, after which a source is given up
_TELLING = 1 << 16  # bytes of a request from which its rate counts
_STEADY = 0.03  # seconds from which that is the rate of the connection, and not what was buffered on the way
_ALIVE = 2.0  # seconds since its beginning or its last bytes during which a connection counts as alive


class Setback(Enum):
    """What can happen to a request.

    `OVERLOADED`: the source asks for fewer requests, or a pause. `BROKEN`: the connection broke, or the
    source failed in a way that may pass. `REFUSED`: it will not deliver. `LIED`: it sent wrong bytes.
    """

    OVERLOADED = "overloaded"
    BROKEN = "broken"
    REFUSED = "refused"
    LIED = "lied"


@dataclass(slots=True)
class SourceState:
    """What is known about one source.

    It is given up after `most_failures` in a row. `ranges` and `whole` are whether it answers such requests;
    `longest` is the number of bytes that one of its answers has at most, 0 for any. `rate` is that of one
    connection, in bytes per second.
    """

    pace: ConnectionPace
    most_failures: int = MOST_FAILURES
    ranges: bool = True
    whole: bool = True
    longest: int = 0
    rate: float = 0.0
    paused_until: float = 0.0
    failures: int = 0
    lies: int = 0
    overloads: int = 0
    counted_at: float = (
        -1.0
    )  #: the last lie, refusal or failure that counted; requests from before tell nothing new
    moved_at: float = -1.0  #: the last delivery
    streams: bool = False  #: whether a response with several units ever delivered one
    barren: int = 0  #: those that failed while none did
    barren_at: float = -1.0
    active: set[Assignment] = field(default_factory=set)

    @property
    def usable(self) -> bool:
        """Whether the source is still in use."""
        return self.failures < self.most_failures and self.lies < MOST_FAILURES

    def has_room(self, now: float) -> bool:
        """Return whether one more connection to the source is worthwhile."""
        return self.usable and now >= self.paused_until and len(self.active) < self.pace.allowed

    def alive(self, now: float) -> int:
        """Return the number of connections that receive something, or have just begun."""
        return sum(now - max(each.heard, each.moved) < _ALIVE for each in self.active)

    def failed_stream(self, assignment: Assignment, now: float) -> None:
        """Note that a response with several units brought none; after two, they are requested one by one.

        Several at once count once, and none after one that delivered.
        """
        if self.streams or assignment.began < self.barren_at:
            return
        self.barren += 1
        self.barren_at = now
        if self.barren >= MOST_FAILURES:
            self.ranges = self.whole = False

    def ended(self, assignment: Assignment, now: float) -> None:
        """Note that a connection is free, and how fast it was."""
        self.active.discard(assignment)
        seconds = now - assignment.first_byte
        if assignment.first_byte and seconds > 0 and assignment.received >= _TELLING:
            rate = assignment.received / (seconds if seconds >= _STEADY else now - assignment.began)
            self.rate = 0.7 * self.rate + 0.3 * rate if self.rate else rate

    def judge(
        self, setback: Setback, began: float, others: int, now: float, pause: float | None = None
    ) -> None:
        """Judge the source by a request that `began` then, while `others` of its connections go on.

        What may pass counts only when no other connection works, and none has since then. Several requests at
        once that are refused, or answered with wrong bytes, count once. A source may ask for a `pause` of
        some seconds.
        """
        if not others and self.moved_at >= began:
            others = 1
        if setback is Setback.OVERLOADED:
            self.pace.overloaded(others, now)
            seconds = pause or 0.0
            if not others:
                self.overloads += 1
                seconds = max(seconds, _PAUSE * 2**self.overloads)
            self.paused_until = max(self.paused_until, now + seconds)
            if seconds > LONGEST_PAUSE or self.overloads > _MOST_OVERLOADS:
                self.failures = self.most_failures
        elif setback is Setback.BROKEN:
            self.pace.broke(others, now)
            if not others and began >= self.counted_at:
                self.counted_at = now
                self.failures += 1
                self.paused_until = max(self.paused_until, now + _RECOVERY * 2**self.failures)
        elif began >= self.counted_at:
            self.counted_at = now
            self.lies += setback is Setback.LIED
            self.failures += setback is Setback.REFUSED
