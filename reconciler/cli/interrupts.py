"""Interrupts: what a command waits for ends at once, and the process soon after.

A thread that waits for a peer does not notice an interrupt, and the command would wait for the thread.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING

from reconciler.cli.output import show_failure
from reconciler.errors import ExitCode

if TYPE_CHECKING:
    from reconciler.loop.settings import Scope
    from reconciler.loop.stopping import Stoppable
    from reconciler.loop.workspace import Workspace
    from reconciler.progress import Progress

_LONGEST_END = 3.0  # seconds


@contextmanager
def loaded_workspace(scope: Scope, environ: Mapping[str, str], progress: Progress) -> Iterator[Workspace]:
    """Load the workspace of a command; an interrupt ends the requests and pauses of its targets and sources.

    Raises as `loop.workspace.load`.
    """
    from reconciler.loop.workspace import load

    with stoppable(progress) as stopped, load(scope, environ, stopped) as workspace:
        yield workspace


@contextmanager
def stoppable(progress: Progress) -> Iterator[Stoppable]:
    """Yield a progress for what loads a workspace itself, which an interrupt stops."""
    from reconciler.loop.stopping import Stoppable

    made = Stoppable(progress)
    with interruptible(made.stop):
        yield made


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """While the block runs, let an interrupt call `stop` in a thread, besides raising KeyboardInterrupt.

    If the block then lasts for more than three seconds, as when a connection is just being made, the process
    ends nevertheless: every command may be killed at any moment.
    """
    over = Event()

    def end() -> None:
        with suppress(Exception):  # whatever fails here, the process ends in time
            stop()
        if not over.wait(_LONGEST_END):
            os._exit(show_interrupted())

    def interrupt(number: int, frame: FrameType | None) -> None:
        Thread(target=end, daemon=True, name="interrupt").start()
        signal.default_int_handler(number, frame)  # raises KeyboardInterrupt

    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is signal.default_int_handler
    ]
    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        over.set()
        for number in numbers:
            signal.signal(number, signal.default_int_handler)


def show_interrupted(*, document: bool = True) -> ExitCode:
    """Print that the command was interrupted; `document` as for `show_failure`."""
    return show_failure(
        "interrupted", hint="run again to finish", code=ExitCode.INTERRUPTED, document=document
    )
