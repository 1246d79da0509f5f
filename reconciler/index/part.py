"""Parts of a version: shares of the leaves of a large one, which several jobs publish.

A part is written `2/5`. It follows a version in a selection, as in `model@1.2.0#2/5`, and in the label of a
pin that keeps its blocks until the whole version is published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from reconciler.index.label import Label

SEPARATOR = "#"
MAX_PARTS = 256  #: of one version
_FORM = re.compile(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,2})")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One of `count` parts of a version; `number` begins with 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `2/5`. Raises ValueError."""
        found = _FORM.fullmatch(text)
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count <= MAX_PARTS:
            raise ValueError(f"{text!r} is not a part such as 2/5, of at most {MAX_PARTS}")
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def part_label(label: Label, part: Part) -> Label:
    """Return the label of a part of the version that `label` names."""
    return Label(f"{label}{SEPARATOR}{part}")


def is_part_of(text: str, label: Label) -> bool:
    """Return whether `text` is the label of a part of the version that `label` names."""
    return text.startswith(label + SEPARATOR)


def part_of_label(label: Label) -> Part | None:
    """Return the part that `label` names; None for a whole version."""
    try:
        return Part.parse(label.partition(SEPARATOR)[2])
    except ValueError:
        return None
