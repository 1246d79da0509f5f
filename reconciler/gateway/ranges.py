"""Byte ranges: the Range header (RFC 9110, section 14) and `entity-bytes` (IPIP-402)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.gateway.refusal import Refusal

_MAX_RANGES = 16  #: of one request; more of them is how servers are made to work hard
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})")
_ENTITY = re.compile(r"(-?\d{1,18}):(-?\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `stop` (exclusive)."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.stop - self.start


def http_ranges(header: str | None, size: int) -> tuple[Span, ...]:
    """The spans that a Range header asks for of `size` bytes; () when all of them are to be sent.

    A header that does not hold, or has too many ranges, is ignored, as RFC 9110 wants. Raises Refusal (416)
    when no range lies within the content.
    """
    if header is None:
        return ()
    unit, _, text = header.partition("=")
    parts = [part.strip() for part in text.split(",")]
    if unit.strip().lower() != "bytes" or len(parts) > _MAX_RANGES:
        return ()
    spans: list[Span] = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None or part == "-":
            return ()
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return ()
        if first:
            start, stop = int(first), min(int(last) + 1, size) if last else size
        else:
            start, stop = max(0, size - int(last)), size
        if start < stop:
            spans.append(Span(start, stop))
    if not spans:
        raise Refusal(416, "no such range", {"Content-Range": f"bytes */{size}"})
    if sum(span.size for span in spans) > size:  # overlapping ranges would send more than there is
        return ()
    return tuple(spans)


@dataclass(frozen=True, slots=True)
class EntityBytes:
    """`entity-bytes=first:last`, both inclusive; negative numbers count from the end, None is the end."""

    first: int
    last: int | None
    text: str

    def span(self, size: int) -> Span | None:
        """The bytes of an entity of `size` bytes that are meant; None when there are none."""
        start = self.first if self.first >= 0 else max(0, size + self.first)
        if self.last is None:
            stop = size
        else:
            stop = min(size, self.last + 1 if self.last >= 0 else size + self.last + 1)
        return Span(start, stop) if start < stop else None

    def lies_outside(self, size: int) -> bool:
        """Whether the range begins behind the end."""
        return self.first >= 0 and self.first >= max(size, 1)


def entity_bytes(text: str | None) -> EntityBytes | None:
    """The value of `entity-bytes`. Raises Refusal (400) when it does not hold."""
    if text is None:
        return None
    match = _ENTITY.fullmatch(text)
    if match is None:
        raise Refusal(400, "entity-bytes must be FROM:TO, such as 0:1023, 499:-1000 or -1024:*")
    first, last = int(match[1]), None if match[2] == "*" else int(match[2])
    if last is not None and (first < 0) == (last < 0) and last < first:
        raise Refusal(400, "entity-bytes ends before it begins")
    return EntityBytes(first, last, text)
