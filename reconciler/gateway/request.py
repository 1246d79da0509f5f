"""A request for content: parsed and checked, before any block is read.

The response format is `?format=`, otherwise the Accept header decides. Byte ranges are those of the Range
header (RFC 9110, section 14) and of `entity-bytes` (IPIP-402). Source: the Trustless Gateway specification,
IPIP-412 (order and dups of a CAR), IPIP-523 (the URL overrides the header).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from reconciler.errors import DataError
from reconciler.gateway.written_cid import WrittenCid, parse_written_cid

PREFIX = "/ipfs/"
RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"

_MAX_ACCEPT = 4096  # characters
_MAX_PATH = 8192  # characters, percent signs included
_MAX_SEGMENTS = 64
_MAX_RANGES = 16  # of one request; more are a known way to exhaust a server
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})")
_ENTITY = re.compile(r"(-?\d{1,18}):(-?\d{1,18}|\*)")


class RequestRefusedError(Exception):
    """A response without content. `message` is shown to the client and contains nothing about this
    machine.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


# --- the response format


class Format(StrEnum):
    """A response format; the value is the one of `?format=`, "" for the content itself."""

    CONTENT = ""
    RAW = "raw"
    CAR = "car"


_TYPES = {RAW_TYPE: Format.RAW, CAR_TYPE: Format.CAR}

#: formats of the path gateway that need a conversion, or that are for content that no store contains
_UNSUPPORTED_TYPES = {
    "application/x-tar": "tar",
    "application/vnd.ipld.dag-json": "dag-json",
    "application/vnd.ipld.dag-cbor": "dag-cbor",
    "application/cbor": "cbor",
    "application/vnd.ipfs.ipns-record": "ipns-record",
}
_UNSUPPORTED_FORMATS = frozenset((*_UNSUPPORTED_TYPES.values(), "json"))


@dataclass(frozen=True, slots=True)
class RequestedFormat:
    """The format, and whether only the Accept header requested it; then the response has a Content-Location.

    `parameters` are those of the CAR media type, such as {"order": "dfs", "dups": "y"}.
    """

    format: Format
    by_header: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


def negotiate(query: str | None, accept: str) -> RequestedFormat:
    """Return the format that `?format=` (None: absent) and the Accept header request together.

    Raises RequestRefusedError (400, 406).
    """
    if len(accept) > _MAX_ACCEPT:
        raise RequestRefusedError(400, "the Accept header is too long")
    ranges = _parse_accept(accept)
    if query is not None:
        if query in _UNSUPPORTED_FORMATS:
            raise _unsupported(query)
        if query not in (Format.RAW, Format.CAR):
            raise RequestRefusedError(400, "unknown format; this gateway serves raw and car")
        requested = Format(query)
        parameters = next((p for kind, p in ranges if _TYPES.get(kind) is requested), {})
        return RequestedFormat(requested, parameters=parameters)
    unsupported = ""
    for kind, parameters in ranges:
        if kind in _TYPES:
            return RequestedFormat(_TYPES[kind], by_header=True, parameters=parameters)
        if kind in _UNSUPPORTED_TYPES:
            unsupported = unsupported or kind
        else:  # for every other type the content itself is sent, as browsers and curl expect
            return RequestedFormat(Format.CONTENT)
    if unsupported:
        raise _unsupported(_UNSUPPORTED_TYPES[unsupported])
    return RequestedFormat(Format.CONTENT)


def _unsupported(name: str) -> RequestRefusedError:
    return RequestRefusedError(406, f"format {name} is not served; request raw or car and convert it locally")


def _parse_accept(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Return the media ranges of an Accept header by preference, without those of q=0."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for item in accept.split(","):
        kind, *rest = (part.strip() for part in item.split(";"))
        if not kind:
            continue
        parameters = {}
        for text in rest:
            name, _, value = text.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"').lower()
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 1.0
        if quality > 0:
            found.append((quality, kind.lower(), parameters))
    found.sort(key=lambda one: -one[0])
    return [(kind, parameters) for _, kind, parameters in found]


# --- byte ranges


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` to `stop` (exclusive)."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.stop - self.start


def http_ranges(header: str | None, size: int) -> tuple[Span, ...]:
    """Return the spans that a Range header requests of `size` bytes; () for all bytes.

    A malformed header, or one with too many ranges, is ignored, as RFC 9110 requires. Raises
    RequestRefusedError (416) when no range overlaps the content.
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
        raise RequestRefusedError(416, "range not satisfiable", {"Content-Range": f"bytes */{size}"})
    if sum(span.size for span in spans) > size:  # overlapping ranges would send more than the content
        return ()
    return tuple(spans)


@dataclass(frozen=True, slots=True)
class EntityBytes:
    """`entity-bytes=first:last`, both inclusive; negative numbers count from the end, None is the end."""

    first: int
    last: int | None
    text: str

    def span(self, size: int) -> Span | None:
        """Return the requested bytes of an entity of `size` bytes; None when there are none."""
        start = self.first if self.first >= 0 else max(0, size + self.first)
        if self.last is None:
            stop = size
        else:
            stop = min(size, self.last + 1 if self.last >= 0 else size + self.last + 1)
        return Span(start, stop) if start < stop else None

    def lies_outside(self, size: int) -> bool:
        """Return whether the range begins after the end of an entity of `size` bytes."""
        return self.first >= 0 and self.first >= max(size, 1)


def entity_bytes(text: str | None) -> EntityBytes | None:
    """Parse the value of `entity-bytes`. Raises RequestRefusedError (400) when it is malformed."""
    if text is None:
        return None
    match = _ENTITY.fullmatch(text)
    if match is None:
        raise RequestRefusedError(400, "entity-bytes must be FROM:TO, such as 0:1023, 499:-1000 or -1024:*")
    first, last = int(match[1]), None if match[2] == "*" else int(match[2])
    if last is not None and (first < 0) == (last < 0) and last < first:
        raise RequestRefusedError(400, "entity-bytes ends before it begins")
    return EntityBytes(first, last, text)


# --- the request


class DagScope(StrEnum):
    """`dag-scope`: how much below the end of the path a CAR contains."""

    BLOCK = "block"
    ENTITY = "entity"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CarTerms:
    """The requested content of a CAR. With `dups`, a block is sent again each time it occurs."""

    scope: DagScope = DagScope.ALL
    entity: EntityBytes | None = None
    dups: bool = False


@dataclass(frozen=True, slots=True)
class Conditions:
    """The headers Range, If-Range and If-None-Match of a request; None for an absent one."""

    range: str | None = None
    if_range: str | None = None
    if_none_match: str | None = None


def conditions_of(headers: Mapping[str, str]) -> Conditions:
    """Return the conditions in the headers of a request; names are lower case."""
    return Conditions(headers.get("range"), headers.get("if-range"), headers.get("if-none-match"))


@dataclass(frozen=True, slots=True)
class ContentRequest:
    """A request for content. `path` is percent-encoded, as it was received; `segments` are the names in
    it.
    """

    root: WrittenCid
    path: str
    segments: tuple[bytes, ...]
    trailing_slash: bool
    requested: RequestedFormat
    car: CarTerms
    conditions: Conditions
    only_if_cached: bool
    filename: str | None
    download: bool
    query: str


def parse_request(
    raw_path: str, query: str, pairs: Sequence[tuple[str, str]], headers: Mapping[str, str]
) -> ContentRequest:
    """Parse the request for `raw_path` (percent-encoded). Header names are lower case.

    Raises RequestRefusedError.
    """
    if len(raw_path) > _MAX_PATH:
        raise RequestRefusedError(414, "the path is too long")
    first, slash, rest = raw_path.removeprefix(PREFIX).partition("/")
    if headers.get("service-worker", "").lower() == "script" and not rest:
        raise RequestRefusedError(400, "a service worker must not be registered for a whole content root")
    values = _first_values(pairs)
    requested = negotiate(values.get("format"), headers.get("accept", ""))
    return ContentRequest(
        root=_parse_root(first),
        path=raw_path,
        segments=_parse_segments(rest),
        trailing_slash=bool(slash) and raw_path.endswith("/"),
        requested=requested,
        car=car_terms(values, requested) if requested.format is Format.CAR else CarTerms(),
        conditions=conditions_of(headers),
        only_if_cached="only-if-cached" in headers.get("cache-control", "").lower(),
        filename=values.get("filename"),
        download=values.get("download") == "true",
        query=query,
    )


def car_terms(values: Mapping[str, str], requested: RequestedFormat) -> CarTerms:
    """Return the terms of a CAR from the query and, where it has none, from the Accept header.

    Raises RequestRefusedError (400, 406).
    """
    version = values.get("car-version", requested.parameters.get("version", "1"))
    if version != "1":
        raise RequestRefusedError(406, "only CAR version 1 is served")
    order = values.get("car-order", requested.parameters.get("order", "dfs"))
    if order not in ("dfs", "unk"):
        raise RequestRefusedError(406, "only CARs in the order dfs are served")
    dups = values.get("car-dups", requested.parameters.get("dups", "n"))
    if dups not in ("y", "n"):
        raise RequestRefusedError(400, "dups must be y or n")
    entity = entity_bytes(values.get("entity-bytes"))
    scope = values.get("dag-scope", DagScope.ENTITY if entity else DagScope.ALL)
    if scope not in tuple(DagScope):
        raise RequestRefusedError(400, "dag-scope must be block, entity or all")
    if entity is not None and scope != DagScope.ENTITY:
        raise RequestRefusedError(400, "entity-bytes is allowed with dag-scope=entity only")
    return CarTerms(DagScope(scope), entity, dups == "y")


def _parse_root(text: str) -> WrittenCid:
    try:
        return parse_written_cid(text)
    except DataError as error:
        message = f"{error.message}; {error.hint}" if error.hint else error.message
        raise RequestRefusedError(400, message) from None


def _parse_segments(text: str) -> tuple[bytes, ...]:
    names = tuple(unquote_to_bytes(part) for part in text.split("/") if part)
    if len(names) > _MAX_SEGMENTS:
        raise RequestRefusedError(400, "the path has too many segments")
    if any(name in (b".", b"..") or b"\0" in name or b"/" in name for name in names):
        raise RequestRefusedError(400, "the path has an invalid segment")
    return names


def _first_values(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the first value of each name in the query."""
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    return values
