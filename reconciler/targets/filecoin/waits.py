"""Waiting for providers and the chain: how long, and how often to ask. Durations are in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]
Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Waits:
    """Limits of one run.

    `parked`: until a provider finds a piece that was sent. `landed`: until an addition is on the chain;
    `unclear`: the same where the provider did not say that it sent it. `pulled`: without progress of a pull.
    `batch`: from the first piece that was sent until its addition, because providers drop pieces that are in
    no data set after two hours.
    """

    interval: float = 4.0
    parked: float = 300.0
    landed: float = 900.0
    unclear: float = 180.0
    pulled: float = 900.0
    batch: float = 2700.0
    sleep: Sleep = time.sleep
    clock: Clock = time.monotonic

    def until(self, done: Callable[[], bool], limit: float) -> bool:
        """Ask `done` until it is true, for at most `limit` seconds; return whether it was."""
        end = self.clock() + limit
        while not done():
            if self.clock() >= end:
                return False
            self.sleep(self.interval)
        return True


DEFAULT_WAITS = Waits()
