"""Output of commands: results on stdout, all else on stderr, failures as `error:` and `hint:` lines."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from reconciler.cli import streams
from reconciler.errors import ExitCode, ReconcilerError
from reconciler.progress import Progress
from reconciler.redaction import hide_secrets
from reconciler.render.words import plain

if TYPE_CHECKING:
    from reconciler.render.text import Paint


class OutputError(ReconcilerError):
    """The result of a command cannot be written to stdout."""


def result(text: str) -> None:
    """Print the result of a command on stdout. Secrets in addresses are hidden, as in all output.

    Raises BrokenPipeError when its reader closed it, OutputError when it cannot be written.
    """
    text = hide_secrets(text)
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        streams.discard(sys.stdout)
        raise OutputError(
            f"cannot write the result to stdout: {(error.strerror or str(error)).lower()}",
            hint="what the command did is done; run it again to see the result",
        ) from None


def result_json(document: Any, *, line: bool = False) -> None:
    """Print the result of a command as JSON on stdout; with `line` on a single line, after JSON events."""
    ascii_only = not streams.is_unicode(sys.stdout)
    safe = _without_secrets(document)
    result(json.dumps(safe, indent=None if line else 2, ensure_ascii=ascii_only))


def _without_secrets(value: Any) -> Any:
    """Return a JSON document with `hide_secrets` applied to every string: escapes would hide them from it."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list | tuple) else value


def say(text: str) -> None:
    """Print anything but the result on stderr; nothing when stderr cannot be written."""
    with suppress(OSError):
        sys.stderr.write(hide_secrets(text) + "\n")
        sys.stderr.flush()


def warn(text: str) -> None:
    """Print a warning on stderr."""
    say(f"warning: {plain(text)}")


def show_failure(
    message: str, *, hint: str | None = None, where: str = "", code: ExitCode, document: bool = True
) -> ExitCode:
    """Print an error on stderr, and as a JSON document on stdout when JSON was requested; return `code`.

    Whether JSON was requested is read from `sys.argv`, since parsing the arguments may have failed. With
    `document=False` nothing is printed on stdout: the command has already printed its document.
    """
    place = f"{plain(where)}: " if where else ""
    first, *others = message.splitlines() or [""]
    say(f"error: {place}{plain(first)}")
    for line in others:
        say(f"  {plain(line)}")
    if hint:
        say(f"hint: {plain(hint)}")
    if document and _wants_json(sys.argv[1:]):
        from reconciler.render.documents import error_document

        failure = error_document(message, where=where or None, hint=hint, exit_code=int(code))
        try:
            result_json(failure, line=True)
        except (OSError, OutputError):  # stderr has the message
            streams.discard(sys.stdout)
    return code


def _wants_json(arguments: Sequence[str]) -> bool:
    if not {"--json", "--json-events", "--format=json"}.isdisjoint(arguments):
        return True
    return ("--format", "json") in itertools.pairwise(arguments)


def paint() -> Paint:
    """Return the painter for stdout: in colour on a terminal, unless NO_COLOR is set or TERM is `dumb`."""
    from reconciler.render.text import colour, no_colour

    wanted = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return colour if wanted else no_colour


@contextmanager
def progress(*, events: bool = False) -> Iterator[Progress]:
    """Show progress while the block runs: bars on a terminal, notes elsewhere, always on stderr.

    Bars are removed before the block ends, so that the result follows on a clean line. With `events`,
    progress goes to stdout as one JSON object per line.
    """
    from reconciler.render.progress import Bars, Events, Lines

    if events:
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
