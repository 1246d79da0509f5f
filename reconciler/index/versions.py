"""Versions: SemVer 2.0 text and its order."""

from __future__ import annotations

import re
from collections.abc import Iterable

import semver

MAX_LENGTH = 64  #: characters; label lengths and file names depend on it

_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    r"(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)"
    rf"(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


def is_version(text: str) -> bool:
    """Whether `text` is a SemVer 2.0 version of at most MAX_LENGTH characters."""
    return len(text) <= MAX_LENGTH and _SEMVER.fullmatch(text) is not None


def parse_version(text: str) -> semver.Version:
    """`text` as a version. Raises ValueError when it is none."""
    if not is_version(text):
        raise ValueError(f"{text[:MAX_LENGTH]!r} is not a SemVer 2.0 version")
    return semver.Version.parse(text)


def newest_first(texts: Iterable[str]) -> list[str]:
    """Version texts by SemVer precedence, the highest first; equal ones by their text (build metadata)."""
    return sorted(texts, key=lambda text: (parse_version(text), text), reverse=True)
