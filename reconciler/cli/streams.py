"""The standard streams of a process, prepared before a command prints anything.

A command must not fail because of the terminal, the locale or the pipe that it happens to run in: what it did
is done by then. A stream that cannot encode a character gets a similar one in ASCII, or its escape. A stream
that is closed is replaced by the null device.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

_ERRORS = "reconciler.similar"
_DEFAULT_ERRORS = ("strict", "surrogateescape", "backslashreplace")  # Python's; others are a user's choice
_SIMILAR = {
    "→": "->",
    "…": "...",
    "—": "-",
    "µ": "u",
    "─": "-",
    "│": "|",
    "├": "+",
    "└": "+",
}


def use_utf8_file_names() -> None:
    """Start this process again in Python's UTF-8 mode when the locale has another encoding.

    The paths of a bundle are UTF-8 on every machine, and so are the index and records. The streams keep the
    encoding of the locale.
    """
    encoding = sys.getfilesystemencoding().lower().replace("_", "-")
    if sys.flags.utf8_mode or encoding == "utf-8" or not sys.executable:
        return
    environ = dict(os.environ)
    if sys.stdout is not None:
        environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    arguments = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    os.execve(sys.executable, arguments, environ)  # noqa: S606 - no shell, and the same program


def prepare() -> None:
    """Make the standard streams usable: open where they are closed, and able to print every character."""
    _open_missing()
    codecs.register_error(_ERRORS, _encode_similar)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _DEFAULT_ERRORS:
            with suppress(OSError):  # it flushes the stream
                stream.reconfigure(errors=_ERRORS)


def is_unicode(stream: TextIO) -> bool:
    """Return whether `stream` can print every character."""
    return (stream.encoding or "").lower().startswith("utf")


def discard(stream: TextIO) -> None:
    """Send everything that `stream` still holds to the null device: its reader or its disk is gone."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _open_missing() -> None:
    """Open the null device where a standard descriptor is closed.

    The next file that is opened would get its number otherwise, and the output of a child process with it.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number, inheritable=True)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _encode_similar(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace each character that the encoding lacks: by a similar one in ASCII, else by its escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(
        _SIMILAR.get(each, each.encode("ascii", "backslashreplace").decode()) for each in found
    ), error.end
