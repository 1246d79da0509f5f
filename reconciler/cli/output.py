"""What commands print, and on which stream."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from reconciler.progress import Progress

if TYPE_CHECKING:
    from reconciler.render.text import Paint


def result(text: str) -> None:
    """The result of a command: stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def result_json(document: Any, *, line: bool = False) -> None:
    """The result of a command as JSON: stdout. As a `line`, it is the last of several objects."""
    result(json.dumps(document, indent=None if line else 2, ensure_ascii=False))


def say(text: str) -> None:
    """Anything but the result: stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """A warning: stderr."""
    from reconciler.render.words import plain

    say(f"warning: {plain(text)}")


def paint() -> Paint:
    """Colours when stdout is a terminal that wants them (NO_COLOR is honoured)."""
    from reconciler.render.text import colour, no_colour

    wanted = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return colour if wanted else no_colour


@contextmanager
def progress(*, events: bool = False) -> Iterator[Progress]:
    """Bars on a terminal, notes elsewhere, always on stderr; gone before the result is printed.

    With `events`, what happens is part of what was asked for: JSON objects on stdout, one a line.
    """
    from reconciler.render.terminal import Bars, Lines

    if events:
        from reconciler.render.events import Events

        yield Events(sys.stdout)
        return
    if not sys.stderr.isatty():
        yield Lines(sys.stderr)
        return
    bars = Bars(sys.stderr)
    try:
        yield bars
    finally:
        bars.close()
