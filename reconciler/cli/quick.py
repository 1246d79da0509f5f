"""`resolve` in its plainest form, answered without loading the command-line library.

Inference nodes call it at every start. Anything but a REF, --json and -C DIR goes the ordinary way, which
also words every mistake; a test holds both ways to the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PlainResolve:
    """The arguments of a plain `reconcile resolve`."""

    ref: str
    directory: Path | None = None
    as_json: bool = False


def plain_resolve(arguments: Sequence[str]) -> PlainResolve | None:
    """What a plain call asks for, or None when `arguments` are anything else."""
    rest = list(arguments)
    directory = None
    if rest[:1] == ["-C"] and len(rest) > 2:
        directory, rest = Path(rest[1]), rest[2:]
    if rest[:1] != ["resolve"]:
        return None
    del rest[0]
    if "-C" in rest[:-1]:
        at = rest.index("-C")
        directory = Path(rest[at + 1])
        del rest[at : at + 2]
    as_json = rest.count("--json") == 1
    if as_json:
        rest.remove("--json")
    if len(rest) != 1 or rest[0].startswith("-"):
        return None
    return PlainResolve(rest[0], directory, as_json)
