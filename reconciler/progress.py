"""Progress reports of long work, independent of how they are shown.

Long work takes a `Progress` and calls `task` once for each part that it can measure. A terminal bar, plain
lines and silence are implementations of the two protocols. Methods may be called from several threads.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """One measurable part of the work, in bytes unless its label names another unit; a context manager."""

    def advance(self, amount: int) -> None:
        """Report that `amount` more is done. Called about once a MiB, from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Receiver of progress reports."""

    def task(self, label: str, total: int | None) -> Task:
        """Begin a task of `total` bytes (None: unknown); `label` names it for the user."""

    def note(self, text: str) -> None:
        """Show one line now, such as a retry."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Quiet:
    """A Progress that shows nothing."""

    def task(self, label: str, total: int | None) -> Task:  # noqa: ARG002
        """Return a task that shows nothing."""
        return _SilentTask()

    def note(self, text: str) -> None:
        """Show nothing."""


QUIET: Progress = Quiet()
