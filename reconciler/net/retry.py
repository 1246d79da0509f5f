"""Retries: jittered exponential backoff, the `Retry-After` header, and a budget for one run."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from weakref import WeakSet

LONGEST_PAUSE = 300.0  #: seconds; a call to a peer that asks for more fails in this run


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Up to `attempts` attempts; a pause of `base` seconds after the first, doubling up to `ceiling`."""

    attempts: int = 4
    base: float = 0.5
    ceiling: float = 30.0

    def pause(self, attempt: int, rand: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait after failed attempt number `attempt` (from 1).

        Between half and all of the step, by `rand` in [0, 1).
        """
        step = min(self.ceiling, self.base * 2.0 ** (attempt - 1))
        return step * (0.5 + rand() / 2)


NO_RETRY = RetryPolicy(attempts=1)


class EndsWithRun(Protocol):
    """What is closed when the run ends."""

    def close(self) -> None:
        """End all requests, and refuse new ones. May be called twice, and from any thread."""


class RetryBudget:
    """The number of retries, and the seconds of pauses, left in one run; shared by all clients of the run.

    Without it every request to a dead peer would take the full backoff. The end of the run ends its clients.
    """

    def __init__(self, retries: int = 40, seconds: float = 900.0) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clients: WeakSet[EndsWithRun] = WeakSet()
        self._retries = retries
        self._seconds = seconds

    def take(self, pause: float) -> bool:
        """Take one retry with a pause of `pause` seconds; return False, taking nothing, when none is left."""
        with self._lock:
            if self._retries < 1 or self._seconds < pause:
                return False
            self._retries -= 1
            self._seconds -= pause
            return True

    def share(self, client: EndsWithRun) -> None:
        """Close `client` when the run ends."""
        with self._lock:
            self._clients.add(client)
        if self._ended.is_set():
            client.close()

    def end(self) -> None:
        """Close all clients, and end all pauses. May be called twice, and from any thread."""
        self._ended.set()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.close()

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, at most until the run ends."""
        self._ended.wait(seconds)


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a `Retry-After` header requests (RFC 9110, 10.2.3); None for an invalid one."""
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
