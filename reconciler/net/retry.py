"""When to ask again: jittered exponential backoff, a peer's `Retry-After`, and a budget for the run."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_PAUSE = 300.0  #: seconds; a peer that asks for more is left for the next run


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` tries altogether, pausing about `base` seconds after the first, doubling up to `ceiling`."""

    attempts: int = 4
    base: float = 0.5
    ceiling: float = 30.0

    def pause(self, attempt: int, rand: Callable[[], float] = random.random) -> float:
        """Seconds to wait after failed try number `attempt` (from 1): between half and all of the step."""
        step = min(self.ceiling, self.base * 2.0 ** (attempt - 1))
        return step * (0.5 + rand() / 2)


NO_RETRY = RetryPolicy(attempts=1)


class RetryBudget:
    """How often, and for how many seconds together, one run may ask again; shared by all clients of the run.

    Without it every item against a dead peer would pay the full backoff.
    """

    def __init__(self, retries: int = 40, seconds: float = 900.0) -> None:
        self._lock = threading.Lock()
        self._retries = retries
        self._seconds = seconds

    def take(self, pause: float) -> bool:
        """Take one retry after `pause` seconds; False, taking nothing, when it is not left."""
        with self._lock:
            if self._retries < 1 or self._seconds < pause:
                return False
            self._retries -= 1
            self._seconds -= pause
            return True


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds a `Retry-After` header asks for (RFC 9110, 10.2.3), or None when it cannot be read."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
