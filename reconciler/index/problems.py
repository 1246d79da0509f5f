"""Problems found in one file, gathered and told in one error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reconciler.errors import InvalidIndex, Where

MAX_TOLD = 10
_MAX_SHOWN = 100


class Problem(NamedTuple):
    """One thing that does not hold: its line (from 1), what it is, and what to do."""

    line: int
    message: str
    hint: str | None = None


def shown(value: str) -> str:
    """A value from a file in a message: quoted, escaped, and cut at 100 characters."""
    text = str(value)
    return repr(text) if len(text) <= _MAX_SHOWN else repr(text[:_MAX_SHOWN]) + "..."


def raise_for(problems: Sequence[Problem], file: str) -> None:
    """Raise InvalidIndex if there are `problems`: the first is the message, others follow, a line each."""
    if not problems:
        return
    first, *others = sorted(problems, key=lambda problem: problem.line)
    told = [f"{Where(file, other.line)}: {other.message}" for other in others[: MAX_TOLD - 1]]
    if len(others) >= MAX_TOLD:
        told.append(f"and {len(others) - MAX_TOLD + 1} more")
    raise InvalidIndex("\n".join([first.message, *told]), hint=first.hint, where=Where(file, first.line))
