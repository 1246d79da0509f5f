"""Patterns in gitignore syntax, which select the files of a bundle.

The rules are those of gitignore(5): the last pattern that matches decides, `!` reverses, `/` at the end means
directories only, any other `/` ties the pattern to the root, and `**` stands for any number of directories.
As in git, patterns and names are compared as UTF-8 bytes, case matters, and what is matched together with its
directory cannot be taken back by a later `!`. Which files a version has depends on these rules, so they are
ours and no dependency may change them. A match takes linear time for any pattern: a `*` commits to the
earliest continuation and never tries again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from reconciler.errors import DataError

MAX_PATTERNS = 1000  #: in one list
MAX_LENGTH = 1024  #: characters of one pattern

_CLASSES = {
    b"alnum": b"0-9A-Za-z",
    b"alpha": b"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": b"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": b"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    b"space": rb" \t\n\r",
    b"upper": b"A-Z",
    b"xdigit": b"0-9A-Fa-f",
}
_ANY_NUMBER = None  # a segment `**`
_ANY_NAME = re.compile(b".+", re.DOTALL)

_Segment = re.Pattern[bytes] | None
_Part = tuple[re.Pattern[bytes], ...]  # the segments between two `**`


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern; `text` is as written."""

    text: str
    negated: bool
    directories_only: bool
    _parts: tuple[_Part, ...] = field(repr=False)

    def matches(self, names: Sequence[bytes], *, is_directory: bool) -> bool:
        """Return whether the pattern matches the path of these UTF-8 names, below the root."""
        return (is_directory or not self.directories_only) and _match(self._parts, names)


@lru_cache(maxsize=4096)
def parse_pattern(text: str) -> Pattern:
    """Return the pattern `text`. Raises DataError for one that could never match, saying why."""
    body = _without_trailing_spaces(text)
    negated = body.startswith("!")
    if negated:
        body = body[1:]
    if any(ord(character) < 32 for character in text) or len(text) > MAX_LENGTH:
        raise DataError("is not a pattern", hint=f"write one line of at most {MAX_LENGTH} characters")
    if body.startswith("#") and not negated:
        raise DataError("is a comment in gitignore syntax", hint=f"for a name, write '\\{body[:80]}'")
    directories_only = body.endswith("/")
    body = body.removesuffix("/")
    anchored = "/" in body
    try:
        segments = [_segment(part) for part in _split(body.removeprefix("/").encode())]
    except UnicodeEncodeError:
        raise DataError("is not UTF-8") from None
    if not anchored:
        segments = [_ANY_NUMBER, segments[0] or _ANY_NAME]
    elif segments[-1] is _ANY_NUMBER:  # `a/**` is everything below a, not a itself
        segments.append(_ANY_NAME)
    return Pattern(text, negated, directories_only, tuple(_parts(segments)))


class PatternList:
    """Patterns in their order, which also count what they match."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._patterns = [parse_pattern(text) for text in texts]
        self._used = [False] * len(texts)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def last_match(self, names: Sequence[bytes], *, is_directory: bool) -> Pattern | None:
        """Return the pattern that decides about an entry of a directory that none matches, or None."""
        found = None
        for number, pattern in enumerate(self._patterns):
            if pattern.matches(names, is_directory=is_directory):
                self._used[number] = True
                found = pattern
        return found

    def unused(self) -> Iterator[str]:
        """Yield the patterns that have matched nothing so far."""
        return (each.text for each, used in zip(self._patterns, self._used, strict=True) if not used)


@dataclass(frozen=True, slots=True)
class FilePatterns:
    """The patterns of a version: the files that `include` matches, or all if it is empty, without those that
    `exclude` matches.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)


ALL_FILES = FilePatterns()  #: no patterns


def _parts(segments: Sequence[_Segment]) -> Iterator[_Part]:
    part: list[re.Pattern[bytes]] = []
    for segment in segments:
        if segment is _ANY_NUMBER:
            yield tuple(part)
            part = []
        else:
            part.append(segment)
    yield tuple(part)


def _match(parts: Sequence[_Part], names: Sequence[bytes]) -> bool:
    """Match whole names: what stands before the first `**` at the start, what stands after the last at the
    end, and the rest between them, each as early as possible.
    """
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return len(first) == len(names) and _fits(first, names, 0)
    end = len(names) - len(last)
    if end < len(first) or not _fits(first, names, 0) or not _fits(last, names, end):
        return False
    start = len(first)
    for part in parts[1:-1]:
        while start + len(part) <= end and not _fits(part, names, start):
            start += 1
        start += len(part)
    return start <= end


def _fits(part: _Part, names: Sequence[bytes], start: int) -> bool:
    return all(segment.fullmatch(names[start + number]) for number, segment in enumerate(part))


def _split(body: bytes) -> Iterator[bytes]:
    """Split at each slash that is not in brackets."""
    start = position = 0
    while position < len(body):
        if body[position : position + 1] == b"/":
            yield body[start:position]
            start = position = position + 1
        elif body[position : position + 1] == b"[":
            position = _Bracket(body, position).end
        elif body[position : position + 2] == rb"\/":
            yield body[start:position]
            start = position = position + 2
        else:
            position += 2 if body[position : position + 1] == b"\\" else 1
    yield body[start:]


def _segment(part: bytes) -> _Segment:
    """Translate what stands between two slashes; DataError when no name can match it."""
    if part in (b"", b".", b".."):
        raise DataError("matches nothing", hint="write a path below the directory, without '.' and '..'")
    if len(part) > 1 and not part.strip(b"*"):
        return _ANY_NUMBER
    fixed = [b""]
    position = 0
    while position < len(part):
        character = part[position : position + 1]
        position += 1
        if character == b"*":
            fixed.append(b"")
        elif character == b"?":
            fixed[-1] += b"."
        elif character == b"[":
            bracket = _Bracket(part, position - 1)
            fixed[-1] += bracket.regex
            position = bracket.end
        elif character == b"\\":
            if position == len(part):
                raise DataError("ends in a backslash", hint=r"write '\\' for a backslash")
            fixed[-1] += re.escape(part[position : position + 1])
            position += 1
        else:
            fixed[-1] += re.escape(character)
    if len(fixed) == 1:
        return re.compile(fixed[0], re.DOTALL)
    middle = b"".join(b"(?>.*?%s)" % each for each in fixed[1:-1] if each)
    return re.compile(b"%s%s.*%s" % (fixed[0], middle, fixed[-1]), re.DOTALL)


class _Bracket:
    """The bracket expression at `start` of `text`: its `regex`, and the `end` of it.

    Raises DataError when it is not closed, or names an unknown class. As in `wildmatch.c` of git for what a
    `]` in the first place, a `-` and a `\\` mean.
    """

    def __init__(self, text: bytes, start: int) -> None:
        self._text = text
        self.end = start + 1
        self.regex = self._translate()

    def _translate(self) -> bytes:
        negated = self._peek() in (b"!", b"^")
        if negated:
            self._next()
        allowed: set[int] = set()
        previous: int | None = None
        first = True
        while first or self._peek() != b"]":
            first = False
            character = self._next()
            following = self._text[self.end : self.end + 1]
            if character == b"\\":
                previous = self._next()[0]
                allowed.add(previous)
            elif character == b"-" and previous is not None and following not in (b"", b"]"):
                last = self._next()
                if last == b"\\":
                    last = self._next()
                allowed.update(range(previous, last[0] + 1))
                previous = None
            elif character == b"[" and following == b":" and (named := self._class()) is not None:
                allowed.update(named)
                previous = None
            else:
                previous = character[0]
                allowed.add(previous)
        self.end += 1
        if negated:
            allowed = set(range(256)) - allowed
        allowed.discard(ord("/"))
        if not allowed:
            return b"(?!)"
        return b"[" + b"".join(b"\\x%02x" % value for value in sorted(allowed)) + b"]"

    def _class(self) -> set[int] | None:
        """Read `:name:]`, after its bracket; None when it is not one."""
        close = self._text.find(b"]", self.end)
        body = self._text[self.end + 1 : close]
        if close < 0 or not body.endswith(b":"):
            return None
        members = _CLASSES.get(body[:-1])
        if members is None:
            raise DataError(
                f"has the unknown class {body[:-1].decode(errors='replace')[:40]!r}", hint="e.g. [[:digit:]]"
            )
        self.end = close + 1
        return {value for value in range(256) if re.match(b"[%s]" % members, bytes((value,)))}

    def _peek(self) -> bytes:
        return self._text[self.end : self.end + 1]

    def _next(self) -> bytes:
        character = self._peek()
        if not character:
            raise DataError("has a '[' that is not closed", hint=r"write '\[' for a bracket")
        self.end += 1
        return character


def _without_trailing_spaces(text: str) -> str:
    """Return `text` without the spaces at its end that no backslash escapes."""
    stripped = text.rstrip(" ")
    escapes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if escapes % 2 and stripped != text else stripped
