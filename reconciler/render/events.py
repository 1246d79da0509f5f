"""Progress of long work as JSON for another program: one object a line, and not too many."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from reconciler.progress import Task

_EVERY = 0.5  # seconds between two events of one task


class Events:
    """A Progress that writes events of `schemas/event.schema.json` to a stream."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._count = 0

    def task(self, label: str, total: int | None) -> Task:
        """Begin a task, which is known by its number from here on."""
        with self._lock:
            self._count += 1
            number = self._count
        self._tell("begin", task=number, label=label, total=total)
        return _Counted(self._tell, number, total, self._clock)

    def note(self, text: str) -> None:
        """One line for people."""
        self._tell("note", text=text)

    def _tell(self, event: str, **fields: Any) -> None:
        seconds = round(self._clock() - self._started, 3)
        line = json.dumps({"schema": 1, "kind": "event", "event": event, "seconds": seconds, **fields})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class _Counted:
    def __init__(
        self, tell: Callable[..., None], number: int, total: int | None, clock: Callable[[], float]
    ) -> None:
        self._tell = tell
        self._number = number
        self._total = total
        self._clock = clock
        self._started = self._told = clock()
        self._done = 0
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            now = self._clock()
            if now - self._told < _EVERY:
                return
            self._told = now
            rate = self._done / (now - self._started)
            left = None if self._total is None or not rate else max(0, self._total - self._done) / rate
            # Told under the lock, so that what is done never goes back.
            self._tell(
                "progress",
                task=self._number,
                done=self._done,
                total=self._total,
                rate=round(rate),
                remaining=None if left is None else round(left, 1),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not issubclass(kind, BrokenPipeError):
            self._tell("end", task=self._number, done=self._done, whole=kind is None)
