"""Progress of long work: bars on a terminal, notes in a log, JSON events for other programs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from reconciler.progress import QUIET, Task
from reconciler.redaction import hide_secrets
from reconciler.render.words import plain

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Lines:
    """A Progress for logs and pipes that writes only notes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def task(self, label: str, total: int | None) -> Task:
        """Start a task that writes nothing."""
        return QUIET.task(label, total)

    def note(self, text: str) -> None:
        """Write a note as one plain line; nothing when the stream cannot be written."""
        with suppress(OSError):
            print(f"note: {plain(text)}", file=self._stream, flush=True)


class Bars:
    """A Progress for terminals: a bar with amount, rate and remaining time for each running task.

    Rich is imported with the first task, so that a run with nothing to do never loads it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._display: RichProgress | None = None
        self._lock = threading.Lock()

    def task(self, label: str, total: int | None) -> Task:
        """Start a task and show its bar until its block ends."""
        with self._lock:
            if self._display is None:
                self._display = _display(self._stream)
                self._display.start()
        return _BarTask(self._display, self._display.add_task(plain(label), total=total))

    def note(self, text: str) -> None:
        """Write a note above the bars."""
        if self._display is None:
            Lines(self._stream).note(text)
        else:
            self._display.console.print(f"note: {plain(text)}", markup=False, highlight=False)

    def close(self) -> None:
        """Remove the bars, so that the result follows on a clean line."""
        if self._display is not None:
            self._display.stop()
            self._display = None


class _BarTask:
    def __init__(self, display: RichProgress, number: TaskID) -> None:
        self._display = display
        self._number = number

    def advance(self, amount: int) -> None:
        self._display.advance(self._number, amount)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.remove_task(self._number)


def _display(stream: TextIO) -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress

    # A size of 0 means that the terminal does not know it; Rich would show nothing.
    unknown = [name for name in ("COLUMNS", "LINES") if not os.environ.get(name, "").strip("0")]
    environ = {name: value for name, value in os.environ.items() if name not in unknown}
    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream, _environ=environ),
        transient=True,
        expand=True,
    )


_EVERY = 0.5  # seconds between two events of one task


class Events:
    """A Progress that writes events to a stream as JSON (schemas/event.schema.json), one object per line.

    Progress of a task is written at most every half second.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._count = 0

    def task(self, label: str, total: int | None) -> Task:
        """Start a task; later events name it by its number."""
        with self._lock:
            self._count += 1
            number = self._count
        self._write("begin", task=number, label=label, total=total)
        return _EventTask(self._write, number, total, self._clock)

    def note(self, text: str) -> None:
        """Write a note for people."""
        self._write("note", text=text)

    def _write(self, event: str, **fields: Any) -> None:
        seconds = round(self._clock() - self._started, 3)
        fields = {name: hide_secrets(v) if isinstance(v, str) else v for name, v in fields.items()}
        line = json.dumps({"schema": 1, "kind": "event", "event": event, "seconds": seconds, **fields})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class _EventTask:
    def __init__(
        self, write: Callable[..., None], number: int, total: int | None, clock: Callable[[], float]
    ) -> None:
        self._write = write
        self._number = number
        self._total = total
        self._clock = clock
        self._started = self._written = clock()
        self._done = 0
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            now = self._clock()
            if now - self._written < _EVERY:
                return
            self._written = now
            rate = self._done / (now - self._started)
            left = None if self._total is None or not rate else max(0, self._total - self._done) / rate
            # Written under the lock, so that `done` never decreases.
            self._write(
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
            self._write("end", task=self._number, done=self._done, whole=kind is None)
