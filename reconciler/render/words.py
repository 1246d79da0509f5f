"""Sizes, counts and safe text, as people read them."""

from __future__ import annotations

import re

#: what a forge's runner takes for an order in a log: `::error::` at the start of a line, `##[…]` anywhere
_ORDER = re.compile(r"^(\s*):(?=:)|#(?=#\w*\[)")

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: int) -> str:
    """`count` bytes in binary units with at most one decimal: `512 B`, `1.2 GiB`."""
    value = float(count)
    for unit in _UNITS:
        if value < 1023.95 or unit == _UNITS[-1]:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 block`, `2 blocks`, `1,024 blocks`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def plain(text: str) -> str:
    """`text` on one line, with control and format characters (escapes, bidi overrides) made visible.

    So are the workflow commands of forges, which would act on whoever reads the log.
    """
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return _ORDER.sub(lambda found: (found[1] or "") + f"\\x{ord(found[0][-1]):02x}", visible)
