"""Interruption of work in other threads: a progress that raises once the run was interrupted.

A thread that waits for a peer makes no progress, so what it waits for is ended as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from reconciler.errors import ExitCode, ReconcilerError
from reconciler.progress import Progress, Task


class RunInterruptedError(ReconcilerError):
    """The run was interrupted; the next run finishes its work."""

    exit_code = ExitCode.INTERRUPTED


class Stoppable:
    """A Progress over another one. After `stop()`, every task raises RunInterruptedError at its next step."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._stopped = threading.Event()
        self._endings: list[Callable[[], None]] = []

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Make every task raise at its next step, and end what its threads wait for.

        May be called twice, and from any thread.
        """
        self._stopped.set()
        for end in self._endings:
            end()

    def at_stop(self, end: Callable[[], None]) -> None:
        """Let `stop` call `end`, which may be called twice, from any thread."""
        self._endings.append(end)

    def check(self) -> None:
        """Raise RunInterruptedError after `stop`."""
        if self._stopped.is_set():
            raise RunInterruptedError("interrupted", hint="run again to finish")

    @contextmanager
    def threads(self, number: int) -> Iterator[ThreadPoolExecutor]:
        """Open a pool of `number` threads, and wait for them at the end of the block.

        A KeyboardInterrupt in the block, also while a thread is being started, calls `stop` first.
        """
        with ThreadPoolExecutor(max_workers=number) as pool:
            try:
                yield pool
            except KeyboardInterrupt:
                self.stop()
                raise

    def task(self, label: str, total: int | None) -> Task:
        """Start a task of the inner progress. Raises RunInterruptedError after `stop`."""
        self.check()
        return _StoppableTask(self._inner.task(label, total), self)

    def note(self, text: str) -> None:
        """Pass `text` to the inner progress."""
        self._inner.note(text)


class _StoppableTask:
    def __init__(self, inner: Task, owner: Stoppable) -> None:
        self._inner = inner
        self._owner = owner

    def advance(self, amount: int) -> None:
        self._owner.check()
        self._inner.advance(amount)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)
