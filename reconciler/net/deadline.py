"""Time limits of requests, and the deadline that the current thread has set."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_current = threading.local()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds: to connect, for silence while sending or reading, and for a whole request.

    `total` does not include the time for an upload.
    """

    connect: float = 10.0
    silence: float = 60.0
    total: float = 300.0


class DeadlineExceededError(Exception):
    """The request as a whole took too long."""


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Limit this thread's requests in the body to `seconds` in total (None: no limit)."""
    with deadline_at(None if seconds is None else time.monotonic() + seconds):
        yield


@contextmanager
def deadline_at(moment: float | None) -> Iterator[None]:
    """Limit this thread's requests in the body to end at `moment` of the monotonic clock (None: no limit)."""
    outer = getattr(_current, "at", None)
    _current.at = moment
    try:
        yield
    finally:
        _current.at = outer


def remaining(timeout: float | None = None) -> float | None:
    """Return the seconds until the deadline, at most `timeout`; None: no limit.

    Raises DeadlineExceededError when none are left.
    """
    at = getattr(_current, "at", None)
    if at is None:
        return timeout
    left = float(at) - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError
    return left if timeout is None else min(left, timeout)
