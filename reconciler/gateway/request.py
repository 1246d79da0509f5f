"""Why a request gets no content: an HTTP status and one line for whoever reads it.

Which response format a client wants: `?format=` first, then the Accept header.

Source: the trustless gateway specification, IPIP-412 (order and dups of a CAR), IPIP-523 (the URL wins).

Byte ranges: the Range header (RFC 9110, section 14) and `entity-bytes` (IPIP-402).

One request, read and checked: what it asks for, with nothing looked up yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from reconciler.errors import DataError
from reconciler.gateway import providers
from reconciler.gateway.providers import Linked


class RequestRefusedError(Exception):
    """An answer without content. `message` is shown to the client, so it names nothing of this machine."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


_MAX_ACCEPT = 4096


class Format(StrEnum):
    """What is sent; the value is the word of `?format=`, "" for the content itself."""

    CONTENT = ""
    RAW = "raw"
    CAR = "car"


RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"
_TYPES = {RAW_TYPE: Format.RAW, CAR_TYPE: Format.CAR}

#: formats of the path gateway that would convert content, or that name what a store never holds
_UNKNOWN = {
    "application/x-tar": "tar",
    "application/vnd.ipld.dag-json": "dag-json",
    "application/vnd.ipld.dag-cbor": "dag-cbor",
    "application/cbor": "cbor",
    "application/vnd.ipfs.ipns-record": "ipns-record",
}
_UNKNOWN_WORDS = frozenset((*_UNKNOWN.values(), "json"))


@dataclass(frozen=True, slots=True)
class RequestedFormat:
    """The format, and whether it was named by the Accept header alone (then Content-Location is due).

    `parameters` are those of the CAR media type, such as {"order": "dfs", "dups": "y"}.
    """

    format: Format
    by_header: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


def negotiate(query: str | None, accept: str) -> RequestedFormat:
    """What `?format=` (None: absent) and the Accept header ask for together.

    Raises RequestRefusedError (400, 406).
    """
    if len(accept) > _MAX_ACCEPT:
        raise RequestRefusedError(400, "the Accept header is too long")
    ranges = _parse(accept)
    if query is not None:
        if query in _UNKNOWN_WORDS:
            raise RequestRefusedError(
                406, f"format {query} is not served here; ask for raw or car and convert it yourself"
            )
        if query not in (Format.RAW, Format.CAR):
            raise RequestRefusedError(400, "unknown format; this gateway serves raw and car")
        wanted = Format(query)
        parameters = next((p for kind, p in ranges if _TYPES.get(kind) is wanted), {})
        return RequestedFormat(wanted, parameters=parameters)
    unknown = ""
    for kind, parameters in ranges:
        if kind in _TYPES:
            return RequestedFormat(_TYPES[kind], by_header=True, parameters=parameters)
        if kind in _UNKNOWN:
            unknown = unknown or kind
        else:  # anything else can be answered with the content itself, as browsers and curl want it
            return RequestedFormat(Format.CONTENT)
    if unknown:
        raise RequestRefusedError(
            406, f"{_UNKNOWN[unknown]} is not served here; ask for raw or car and convert it yourself"
        )
    return RequestedFormat(Format.CONTENT)


def _parse(accept: str) -> list[tuple[str, dict[str, str]]]:
    """The media ranges of an Accept header, the preferred ones first; those with q=0 are left out."""
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

    A header that does not hold, or has too many ranges, is ignored, as RFC 9110 wants. Raises
    RequestRefusedError (416) when no range lies within the content.
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
        raise RequestRefusedError(416, "no such range", {"Content-Range": f"bytes */{size}"})
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
    """The value of `entity-bytes`. Raises RequestRefusedError (400) when it does not hold."""
    if text is None:
        return None
    match = _ENTITY.fullmatch(text)
    if match is None:
        raise RequestRefusedError(400, "entity-bytes must be FROM:TO, such as 0:1023, 499:-1000 or -1024:*")
    first, last = int(match[1]), None if match[2] == "*" else int(match[2])
    if last is not None and (first < 0) == (last < 0) and last < first:
        raise RequestRefusedError(400, "entity-bytes ends before it begins")
    return EntityBytes(first, last, text)


PREFIX = "/ipfs/"
_MAX_PATH = 8192  # characters, percent signs included
_MAX_SEGMENTS = 64


class DagScope(StrEnum):
    """`dag-scope`: how much below the end of the path a CAR holds."""

    BLOCK = "block"
    ENTITY = "entity"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CarTerms:
    """What a CAR is to hold. `dups`: blocks are sent again each time they occur."""

    scope: DagScope = DagScope.ALL
    entity: EntityBytes | None = None
    dups: bool = False


@dataclass(frozen=True, slots=True)
class ContentRequest:
    """A request for content. `path` is as it came, percent-encoded; `segments` are the names in it."""

    root: Linked
    path: str
    segments: tuple[bytes, ...]
    trailing_slash: bool
    wanted: RequestedFormat
    car: CarTerms
    range: str | None
    if_range: str | None
    if_none_match: str | None
    only_if_cached: bool
    filename: str | None
    download: bool
    query: str


def read_request(
    raw_path: str, query: str, pairs: Sequence[tuple[str, str]], headers: Mapping[str, str]
) -> ContentRequest:
    """The request for `raw_path` (not decoded). Header names are lower case. Raises RequestRefusedError."""
    if len(raw_path) > _MAX_PATH:
        raise RequestRefusedError(414, "the path is too long")
    first, slash, rest = raw_path.removeprefix(PREFIX).partition("/")
    if headers.get("service-worker", "").lower() == "script" and not rest:
        raise RequestRefusedError(400, "a service worker may not be registered for a whole content root")
    values = _single(pairs)
    wanted = negotiate(values.get("format"), headers.get("accept", ""))
    return ContentRequest(
        root=_root(first),
        path=raw_path,
        segments=_segments(rest),
        trailing_slash=bool(slash) and raw_path.endswith("/"),
        wanted=wanted,
        car=car_terms(values, wanted) if wanted.format is Format.CAR else CarTerms(),
        range=headers.get("range"),
        if_range=headers.get("if-range"),
        if_none_match=headers.get("if-none-match"),
        only_if_cached="only-if-cached" in headers.get("cache-control", "").lower(),
        filename=values.get("filename"),
        download=values.get("download") == "true",
        query=query,
    )


def _root(text: str) -> Linked:
    try:
        return providers.parse(text)
    except DataError as error:
        raise RequestRefusedError(
            400, f"{error.message}; {error.hint}" if error.hint else error.message
        ) from None


def _segments(text: str) -> tuple[bytes, ...]:
    names = tuple(unquote_to_bytes(part) for part in text.split("/") if part)
    if len(names) > _MAX_SEGMENTS:
        raise RequestRefusedError(400, "the path has too many segments")
    if any(name in (b".", b"..") or b"\0" in name or b"/" in name for name in names):
        raise RequestRefusedError(400, "the path has a segment that is no name")
    return names


def _single(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    return values


def car_terms(values: Mapping[str, str], wanted: RequestedFormat) -> CarTerms:
    """The terms of a CAR in the query and, after it, in the Accept header.

    Raises RequestRefusedError (400, 406).
    """
    version = values.get("car-version", wanted.parameters.get("version", "1"))
    if version != "1":
        raise RequestRefusedError(406, "only CAR version 1 is served here")
    order = values.get("car-order", wanted.parameters.get("order", "dfs"))
    if order not in ("dfs", "unk"):
        raise RequestRefusedError(406, "the order of a CAR is dfs here")
    dups = values.get("car-dups", wanted.parameters.get("dups", "n"))
    if dups not in ("y", "n"):
        raise RequestRefusedError(400, "dups must be y or n")
    entity = entity_bytes(values.get("entity-bytes"))
    scope = values.get("dag-scope", DagScope.ENTITY if entity else DagScope.ALL)
    if scope not in tuple(DagScope):
        raise RequestRefusedError(400, "dag-scope must be block, entity or all")
    if entity is not None and scope != DagScope.ENTITY:
        raise RequestRefusedError(400, "entity-bytes goes with dag-scope=entity only")
    return CarTerms(DagScope(scope), entity, dups == "y")
