"""The size of the parts of large versions in a matrix, from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from reconciler.errors import UsageError

_VARIABLE = "RECONCILE_PART_SIZE"
_FORM = re.compile(r"([0-9]{1,15}) ?([kMGT]i?)?B?")
_POWERS = ("", "k", "M", "G", "T")
_LEAST = 1 << 20


def part_size(environ: Mapping[str, str]) -> int | None:
    """Return the bytes of a part at most, None when versions are not divided. Raises UsageError.

    `100 GB` is 10¹¹ bytes, `100 GiB` is 100 × 2³⁰.
    """
    text = environ.get(_VARIABLE, "").strip()
    if not text:
        return None
    found = _FORM.fullmatch(text)
    unit = (found[2] or "") if found else ""
    base = 1024 if unit.endswith("i") else 1000
    size = int(found[1]) * base ** _POWERS.index(unit.removesuffix("i")) if found else 0
    if size < _LEAST:
        raise UsageError(
            f"RECONCILE_PART_SIZE is {text[:40]!r}, expected a size of at least 1 MiB",
            hint="write it like 100 GB or 64 GiB; the input of the Action is part-size",
        )
    return size
