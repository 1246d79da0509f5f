"""SemVer 2.0 versions and their order, and version ranges by npm's rules, parsed in linear time.

    range       = set ("||" set)*
    set         = hyphen | comparator (separator comparator)*      a version must satisfy all of them
    hyphen      = partial " - " partial                            both ends included
    comparator  = ("^" | "~" | "~>" | ">=" | ">" | "<=" | "<" | "=")? "v"? partial
    partial     = "*" | "x" | major ("." minor ("." patch (pre-release)? (build)?)?)?     x, X, * for any
    number separator   = spaces, or a comma with or without spaces

A pre-release matches only when a comparator of the same set names a pre-release of the same
major.minor.patch. Source: the range grammar of node-semver 7. Stricter than that on purpose: an empty range
or an empty side of `||` is an error instead of "anything", and so is a number or a pre-release after a
wildcard, which npm refuses in some places and ignores in others. Wider: a comma also separates comparators.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.errors import UsageError

if TYPE_CHECKING:  # at run time only where versions are compared: it loads argparse
    import semver

MAX_LENGTH = 64  #: characters; label lengths and file names depend on it

_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    r"(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)"
    rf"(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


_PREFIX = re.compile(r"=? *[vV]?")


def is_version(text: str) -> bool:
    """Return whether `text` is a SemVer 2.0 version of at most MAX_LENGTH characters."""
    return len(text) <= MAX_LENGTH and _SEMVER.fullmatch(text) is not None


def is_build(text: str) -> bool:
    """Return whether `text` may be the build metadata of a version; empty for a version without one."""
    return not text or is_version(f"0.0.0+{text}")


def plain_version(text: str) -> str:
    """Return the version that `text` names exactly, without `v` or `=` in front; else `text` itself.

    `v1.2.0`, `=1.2.0` and `= v1.2.0` all name 1.2.0.
    """
    found = _PREFIX.sub("", text, count=1)
    return found if is_version(found) else text


def parse_version(text: str) -> semver.Version:
    """Parse `text`. Raises ValueError when it is not a version."""
    if not is_version(text):
        raise ValueError(f"{text[:MAX_LENGTH]!r} is not a SemVer 2.0 version")
    import semver

    return semver.Version.parse(text)


def newest_first(texts: Iterable[str]) -> list[str]:
    """Sort version texts by SemVer precedence, the highest first; equal ones by text (build metadata)."""
    return sorted(texts, key=lambda text: (parse_version(text), text), reverse=True)


def highest_of(texts: Iterable[str]) -> list[str]:
    """Return the versions of the highest precedence, sorted; several differ only in build metadata."""
    ordered = newest_first(texts)
    top = [text for text in ordered if parse_version(text).compare(parse_version(ordered[0])) == 0]
    return sorted(top)


MAX_RANGE_LENGTH = 256  #: characters of a range

_OPERATOR = re.compile(r"(\^|~>?|>=|<=|>|<|=)? *v?")
_NUMBER = r"(?:0|[1-9][0-9]{0,15})"
_PARTIAL = re.compile(
    rf"([xX*]|{_NUMBER})(?:\.([xX*]|{_NUMBER})(?:\.([xX*]|{_NUMBER})"
    r"(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?)?)?(?=[ ,]|\Z)"
)
_SEPARATOR = re.compile(r" *,? *")
_HYPHEN = re.compile(r" +- +")
_HINT = "ranges look like ^1.2, ~1.2.3, 1.x, >=1.2 <2 or 1.2 || 2.x"


@dataclass(frozen=True, slots=True)
class Comparator:
    """One bound: `operator` is one of >=, >, <=, <, =."""

    operator: str
    version: semver.Version

    def allows(self, version: semver.Version) -> bool:
        """Return whether `version` is on the right side of the bound; build metadata is ignored."""
        order = version.compare(self.version)
        return {">=": order >= 0, ">": order > 0, "<=": order <= 0, "<": order < 0, "=": order == 0}[
            self.operator
        ]


@dataclass(frozen=True, slots=True)
class Range:
    """A parsed range: a version is in it when it satisfies all comparators of one set."""

    text: str
    sets: tuple[tuple[Comparator, ...], ...]

    def contains(self, version: semver.Version) -> bool:
        """Return whether `version` is in the range, by npm's rule for pre-releases."""
        return any(_set_contains(comparators, version) for comparators in self.sets)


def _set_contains(comparators: tuple[Comparator, ...], version: semver.Version) -> bool:
    if not all(comparator.allows(version) for comparator in comparators):
        return False
    if version.prerelease is None:
        return True
    return any(
        comparator.version.prerelease is not None
        and comparator.version.to_tuple()[:3] == version.to_tuple()[:3]
        for comparator in comparators
    )


def parse_range(text: str) -> Range:
    """Parse a range, in time linear in its length. Raises UsageError when it is malformed."""
    if len(text) > MAX_RANGE_LENGTH:
        raise UsageError(f"a version range longer than {MAX_RANGE_LENGTH} characters", hint=_HINT)
    return Range(text, tuple(_parse_set(part.strip(" "), text) for part in text.split("||")))


@dataclass(frozen=True, slots=True)
class _Partial:
    """A version whose trailing numbers may be missing (None)."""

    major: int | None
    minor: int | None
    patch: int | None
    prerelease: str | None

    def floor(self, prerelease: str | None = None) -> semver.Version:
        """Return the lowest version that matches."""
        return _version(self.major or 0, self.minor or 0, self.patch or 0, self.prerelease or prerelease)

    def ceiling(self) -> semver.Version:
        """Return the lowest pre-release of the first version after all matching ones. Requires a major."""
        major, minor = self.major or 0, self.minor
        if minor is None:
            return _version(major + 1, 0, 0, "0")
        return _version(major, minor + 1, 0, "0")


def _parse_set(text: str, whole: str) -> tuple[Comparator, ...]:
    if not text:
        raise UsageError(f"empty version range in {whole!r}", hint=_HINT + ", or * for any release")
    if (hyphen := _parse_hyphen(text, whole)) is not None:
        return hyphen
    comparators: list[Comparator] = []
    position = 0
    while position < len(text):
        operator = _OPERATOR.match(text, position)
        assert operator is not None  # noqa: S101 (every part of the pattern is optional)
        partial, position = _parse_partial(text, operator.end(), whole)
        comparators.extend(_desugar(operator.group(1) or "=", partial))
        separator = _SEPARATOR.match(text, position)
        assert separator is not None  # noqa: S101
        position = separator.end()
        if "," in separator.group() and position == len(text):
            raise UsageError(f"version range {whole!r} ends with a comma", hint=_HINT)
    return tuple(comparators)


def _parse_hyphen(text: str, whole: str) -> tuple[Comparator, ...] | None:
    ends = _HYPHEN.split(text)
    if len(ends) == 1:
        return None
    if len(ends) > 2:
        raise UsageError(f"version range {whole!r} has more than one hyphen", hint=_HINT)
    bounds = []
    for end in ends:
        partial, position = _parse_partial(end, 1 if end.startswith("v") else 0, whole)
        if position != len(end):
            raise UsageError(f"version range {whole!r}: a hyphen must be between two versions", hint=_HINT)
        bounds.append(partial)
    low, high = bounds
    comparators = _desugar(">=", low) + _desugar("<=", high)
    return tuple(comparators)


def _parse_partial(text: str, position: int, whole: str) -> tuple[_Partial, int]:
    found = _PARTIAL.match(text, position)
    if found is None:
        raise UsageError(
            f"{whole!r} is not a version or a range: unexpected {text[position:][:20]!r}", hint=_HINT
        )
    numbers: list[int | None] = []
    for group in found.group(1, 2, 3):
        is_open = group is None or group in "xX*"
        if None in numbers and not is_open:
            raise UsageError(f"version range {whole!r} has a number after a wildcard", hint=_HINT)
        numbers.append(None if is_open else int(group))
    prerelease = found.group(4)
    if prerelease is not None and None in numbers:
        raise UsageError(f"version range {whole!r} has a pre-release after a wildcard", hint=_HINT)
    if prerelease is not None or found.group(5) is not None:
        exact = f"{found.group(1)}.{found.group(2)}.{found.group(3)}{prerelease or ''}{found.group(5) or ''}"
        if None in numbers or not _SEMVER.fullmatch(exact):
            raise UsageError(f"{exact!r} in {whole!r} is not a SemVer 2.0 version", hint=_HINT)
    major, minor, patch = numbers
    return _Partial(major, minor, patch, prerelease[1:] if prerelease else None), found.end()


def _desugar(operator: str, partial: _Partial) -> list[Comparator]:
    """Return the plain bounds that `operator partial` means."""
    if partial.major is None:
        impossible = operator in ("<", ">")
        return [Comparator("<", _version(0, 0, 0, "0")) if impossible else Comparator(">=", partial.floor())]
    is_open = partial.patch is None
    if operator == "^":
        return [Comparator(">=", partial.floor()), Comparator("<", _caret_end(partial))]
    if operator in ("~", "~>"):
        return [Comparator(">=", partial.floor()), Comparator("<", partial.ceiling())]
    if not is_open:
        return [Comparator(operator, partial.floor())]
    if operator == "=":
        return [Comparator(">=", partial.floor()), Comparator("<", partial.ceiling())]
    if operator == ">":
        return [Comparator(">=", partial.ceiling().replace(prerelease=None))]
    if operator == "<=":
        return [Comparator("<", partial.ceiling())]
    if operator == "<":
        return [Comparator("<", partial.floor("0"))]
    return [Comparator(">=", partial.floor())]


def _caret_end(partial: _Partial) -> semver.Version:
    """Return the end of `^partial`: the leftmost number that is not zero must not change."""
    major, minor, patch = partial.major or 0, partial.minor, partial.patch
    if major > 0 or minor is None:
        return _version(major + 1, 0, 0, "0")
    if minor > 0 or patch is None:
        return _version(0, minor + 1, 0, "0")
    return _version(0, 0, patch + 1, "0")


def _version(major: int, minor: int, patch: int, prerelease: str | None) -> semver.Version:
    import semver

    return semver.Version(major, minor, patch, prerelease)
