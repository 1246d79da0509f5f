"""Sizes, counts and untrusted text, formatted for people."""

from __future__ import annotations

import re

from reconciler.redaction import hide_secrets

#: workflow commands in a log: `::error::` at the start of a line, `##[…]` anywhere
_WORKFLOW_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\w*\[)")

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: int) -> str:
    """Format a number of bytes in binary units with at most one decimal: `512 B`, `1.2 GiB`."""
    value = float(count)
    for unit in _UNITS:
        if value < 1023.95 or unit == _UNITS[-1]:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def count(number: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun: `1 block`, `2 blocks`, `1,024 blocks`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def plain(text: str) -> str:
    """Return `text` on one line, without secrets, and with control and format characters made visible.

    Workflow commands are made visible too, since the runner of a forge would carry them out.
    """
    text = hide_secrets(text)
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return _WORKFLOW_COMMAND.sub(lambda found: (found[1] or "") + f"\\x{ord(found[0][-1]):02x}", visible)
