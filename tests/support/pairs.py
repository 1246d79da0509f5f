"""Parameters for tests of every pair of two lists, of which the fast suite runs a fixed part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def name_of(value: object) -> str:
    """Return the part of a test's id for one value: its name, or the value itself, also of a tuple."""
    if isinstance(value, tuple):
        return "-".join(map(name_of, value))
    return str(getattr(value, "name", value))


def pairs(rows: Sequence[Any], columns: Sequence[Any], *, every: int) -> list[Any]:
    """Return all pairs as parameters; all but each `every`-th are slow.

    The others are spread evenly: each row and each column has some as long as both are at least `every` long.
    """
    return [
        pytest.param(
            row,
            column,
            id=f"{name_of(row)}-{name_of(column)}",
            marks=() if (number + place) % every == 0 else pytest.mark.slow,
        )
        for number, row in enumerate(rows)
        for place, column in enumerate(columns)
    ]
