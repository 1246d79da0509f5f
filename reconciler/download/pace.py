"""How many connections to one source pay off. Pure: the caller tells the time.

The number grows while the rate grows with it, as TCP grows its window: doubling at first, by a quarter later.
A trial that brings too little is taken back, and repeated ever more rarely. A source that limits its
connections (429, 503, resets while others go on) keeps the number that it serves; one whose rate falls is
tried with fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

START = 2  #: connections at the beginning
START_FAR = 16  #: the same, to a source whose first byte takes FAR seconds or more
FAR = 0.02
_GAIN = 0.25  # of what an additional connection would bring if all were equal
_SETTLE = 0.05  # seconds, at least, until a new connection is counted on
_WINDOW = 0.1  # seconds, at least, over which a rate is measured
_AGAIN = 1.0  # seconds after a trial that failed; doubles up to _RARELY
_RARELY = 30.0
_FALLEN = 0.7  # share of the best rate from which fewer connections are tried
_FELL_FOR = 3  # windows
_SAME = 0.95  # share of the rate that counts as the same
_SOON = 0.3  # seconds before the end of the download during which nothing is tried,
_SOON_LATENCIES = 3  # and in units of the latency
_CALM = 0.5  # seconds after which a broken connection is replaced
_AT_ONCE = 1.0  # seconds within which broken connections count as one event,
_MANY = 0.25  # and the share of all connections from which they mean a limit of the source


@dataclass(slots=True)
class _Trial:
    """A changed number of connections whose effect is being measured, and what it was changed from."""

    count: int
    rate: float


class ConnectionPace:
    """The number of connections to one source, `allowed`, between 1 and `ceiling`."""

    def __init__(self, ceiling: int, latency: float = 0.0) -> None:
        self.ceiling = max(1, ceiling)
        self.allowed = min(START if latency < FAR else START_FAR, self.ceiling)
        self.rate = 0.0  #: bytes per second, as last measured with all connections busy
        self.latency = latency  #: seconds from a request to its first byte, smoothed; 0: not known
        self._bytes = 0
        self._measuring_from: float | None = None
        self._settled = False
        self._trial: _Trial | None = _Trial(0, 0.0)
        self._starting = True
        self._failed_trials = 0
        self._next_trial = 0.0
        self._best = 0.0
        self._may_try = True
        self._low_windows = 0
        self._restore = 0  # the number before single errors took connections away
        self._breaks: list[float] = []
        self._calm_from = 0.0

    @property
    def is_trying(self) -> bool:
        """Whether the number may be taken back soon, so that requests should be short."""
        return self._trial is not None

    def received(self, size: int) -> None:
        """Count bytes that arrived."""
        self._bytes += size

    def answered(self, seconds: float) -> None:
        """Note the time from a request to the first byte of its response."""
        self.latency = seconds if not self.latency else 0.7 * self.latency + 0.3 * seconds

    def overloaded(self, others: int, now: float) -> None:
        """Shrink because the source asked for fewer requests, while `others` of ours were being served."""
        self._limit(min(self.allowed // 2, max(1, others)), now)

    def broke(self, others: int, now: float) -> None:
        """Shrink because a connection broke, while `others` were in use.

        A single one is replaced soon. When several break at once, the source limits them.
        """
        self._breaks = [moment for moment in self._breaks if now - moment < _AT_ONCE]
        self._breaks.append(now)
        if len(self._breaks) >= max(2, _MANY * self.allowed) or not others:
            self._limit(min(self.allowed - 1, max(1, others)), now)
            return
        self._restore = max(self._restore, self.allowed)
        self.allowed = max(1, self.allowed - 1)
        self._calm_from = now + _CALM
        self._begin(now)

    def unneeded(self, now: float) -> None:
        """Shrink by one because what arrives is not used as fast."""
        self.allowed = max(1, self.allowed - 1)
        self._restore, self._best, self._low_windows = 0, 0.0, 0
        self._again(now)

    def _limit(self, count: int, now: float) -> None:
        self.allowed = max(1, count)
        self._restore, self._best, self._low_windows = 0, 0.0, 0
        self._again(now)

    def tick(self, now: float, busy: int, left: float = inf) -> None:
        """Measure and decide. `busy` is the number of connections in use.

        `left` are the seconds that the download still needs: near its end nothing is tried.
        """
        self._may_try = left > _SOON + _SOON_LATENCIES * self.latency
        if self._restore > self.allowed and now >= self._calm_from:
            self.allowed += 1
            self._calm_from = now + _CALM
            self._measuring_from = None
        if busy < self.allowed or self._measuring_from is None:
            self._begin(now)
            return
        elapsed = now - self._measuring_from
        if not self._settled:
            if elapsed >= max(_SETTLE, 2 * self.latency) and self._bytes:
                self._settled, self._measuring_from, self._bytes = True, now, 0
            return
        if elapsed >= max(_WINDOW, self.latency):
            self.rate = self._bytes / elapsed
            self._measuring_from, self._bytes = now, 0
            self._judge(now)

    def _begin(self, now: float) -> None:
        self._measuring_from, self._settled, self._bytes = now, False, 0

    def _judge(self, now: float) -> None:
        trial = self._trial
        if trial is None:
            self._watch(now)
        elif self.allowed > trial.count:
            expected = trial.rate * (1 + _GAIN * (self.allowed / max(1, trial.count) - 1))
            if self.rate >= expected:
                self._failed_trials = 0
                self._best = self.rate
                if self.allowed < self.ceiling and self._may_try:
                    self._try(self.allowed * 2 if self._starting else self._more(), now)
                else:
                    self._trial, self._starting = None, False
            else:
                self._take_back(trial, now)
        elif self.rate >= _SAME * trial.rate:
            self._trial, self._best = None, self.rate
        else:
            self._take_back(trial, now)

    def _watch(self, now: float) -> None:
        """Try fewer connections when the rate has fallen, more when it is time."""
        self._low_windows = self._low_windows + 1 if self.rate < _FALLEN * self._best else 0
        if self._low_windows >= _FELL_FOR and self.allowed > 1:
            self._low_windows = 0
            self._try(self.allowed - max(1, self.allowed // 4), now)
        elif now >= self._next_trial and self.allowed < self.ceiling and self._may_try:
            self._try(self._more(), now)
        else:
            self._best = max(self._best * 0.98, self.rate)

    def _more(self) -> int:
        return self.allowed + max(1, self.allowed // 4)

    def _try(self, count: int, now: float) -> None:
        self._trial = _Trial(self.allowed, self.rate)
        self.allowed = min(count, self.ceiling)
        self._begin(now)

    def _take_back(self, trial: _Trial, now: float) -> None:
        self.allowed = max(1, trial.count)
        self._best = max(self.rate, trial.rate) if self.allowed > 1 else self.rate
        self._again(now)

    def _again(self, now: float) -> None:
        self._trial, self._starting = None, False
        self._next_trial = now + min(_RARELY, _AGAIN * 2**self._failed_trials)
        self._failed_trials = min(self._failed_trials + 1, 10)
        self._begin(now)
