"""What long work reports, without knowing who shows it.

Work takes a `Progress` and calls `task` once for each stretch of work it can measure; whoever shows it (a
terminal bar, plain lines, nothing) implements the two protocols. Callbacks may come from several threads.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """One measurable stretch of work, in bytes unless its label says otherwise; a context manager."""

    def advance(self, amount: int) -> None:
        """`amount` more is done. Called about once a MiB, from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Where work announces itself."""

    def task(self, label: str, total: int | None) -> Task:
        """Begin a stretch of `total` bytes (None: unknown) that a user would call `label`."""

    def note(self, text: str) -> None:
        """Say one line a user should see now, such as a retry."""


class _Silent:
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
        """Begin nothing anyone sees."""
        return _Silent()

    def note(self, text: str) -> None:
        """Say nothing."""


QUIET: Progress = Quiet()
