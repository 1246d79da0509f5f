"""Progress of long work: bars on a terminal, nothing elsewhere but notes."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from reconciler.progress import QUIET, Task
from reconciler.render.words import plain

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Lines:
    """A Progress for logs and pipes: quiet, but for notes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def task(self, label: str, total: int | None) -> Task:
        """Nothing anyone sees."""
        return QUIET.task(label, total)

    def note(self, text: str) -> None:
        """One plain line."""
        print(f"note: {plain(text)}", file=self._stream, flush=True)


class Bars:
    """A Progress for terminals: a bar with amount, rate and remaining time for each task under way.

    Rich is imported with the first task, so that a run with nothing to do never loads it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._display: RichProgress | None = None
        self._lock = threading.Lock()

    def task(self, label: str, total: int | None) -> Task:
        """Show a bar until the task's block ends."""
        with self._lock:
            if self._display is None:
                self._display = _display(self._stream)
                self._display.start()
        return _Bar(self._display, self._display.add_task(plain(label), total=total))

    def note(self, text: str) -> None:
        """One line above the bars."""
        if self._display is None:
            Lines(self._stream).note(text)
        else:
            self._display.console.print(f"note: {plain(text)}", markup=False, highlight=False)

    def close(self) -> None:
        """Take the bars off the screen, before the result is printed."""
        if self._display is not None:
            self._display.stop()
            self._display = None


class _Bar:
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

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
        expand=True,
    )
