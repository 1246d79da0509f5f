"""Waiting for a state, with a deadline that a busy machine meets too."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 60.0


def wait_until(what: str, ready: Callable[[], object], seconds: float = SECONDS) -> None:
    """Poll `ready` until it is true; raise AssertionError with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise AssertionError(f"still waiting for {what} after {seconds:.0f} s")
        time.sleep(0.02)
