"""One request, read and checked: what it asks for, with nothing looked up yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from reconciler.errors import DataError
from reconciler.gateway import accept, linked
from reconciler.gateway.accept import Format, Wanted
from reconciler.gateway.linked import Linked
from reconciler.gateway.ranges import EntityBytes, entity_bytes
from reconciler.gateway.refusal import Refusal

PREFIX = "/ipfs/"
_MAX_PATH = 8192  # characters, percent signs included
_MAX_SEGMENTS = 64


class Scope(StrEnum):
    """`dag-scope`: how much below the end of the path a CAR holds."""

    BLOCK = "block"
    ENTITY = "entity"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CarTerms:
    """What a CAR is to hold. `dups`: blocks are sent again each time they occur."""

    scope: Scope = Scope.ALL
    entity: EntityBytes | None = None
    dups: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for content. `path` is as it came, percent-encoded; `segments` are the names in it."""

    root: Linked
    path: str
    segments: tuple[bytes, ...]
    trailing_slash: bool
    wanted: Wanted
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
) -> Asked:
    """The request for `raw_path` (not decoded). Header names are lower case. Raises Refusal."""
    if len(raw_path) > _MAX_PATH:
        raise Refusal(414, "the path is too long")
    first, slash, rest = raw_path.removeprefix(PREFIX).partition("/")
    if headers.get("service-worker", "").lower() == "script" and not rest:
        raise Refusal(400, "a service worker may not be registered for a whole content root")
    values = _single(pairs)
    wanted = accept.negotiate(values.get("format"), headers.get("accept", ""))
    return Asked(
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
        return linked.parse(text)
    except DataError as error:
        raise Refusal(400, f"{error.message}; {error.hint}" if error.hint else error.message) from None


def _segments(text: str) -> tuple[bytes, ...]:
    names = tuple(unquote_to_bytes(part) for part in text.split("/") if part)
    if len(names) > _MAX_SEGMENTS:
        raise Refusal(400, "the path has too many segments")
    if any(name in (b".", b"..") or b"\0" in name or b"/" in name for name in names):
        raise Refusal(400, "the path has a segment that is no name")
    return names


def _single(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    return values


def car_terms(values: Mapping[str, str], wanted: Wanted) -> CarTerms:
    """The terms of a CAR in the query and, after it, in the Accept header. Raises Refusal (400, 406)."""
    version = values.get("car-version", wanted.parameters.get("version", "1"))
    if version != "1":
        raise Refusal(406, "only CAR version 1 is served here")
    order = values.get("car-order", wanted.parameters.get("order", "dfs"))
    if order not in ("dfs", "unk"):
        raise Refusal(406, "the order of a CAR is dfs here")
    dups = values.get("car-dups", wanted.parameters.get("dups", "n"))
    if dups not in ("y", "n"):
        raise Refusal(400, "dups must be y or n")
    entity = entity_bytes(values.get("entity-bytes"))
    scope = values.get("dag-scope", Scope.ENTITY if entity else Scope.ALL)
    if scope not in tuple(Scope):
        raise Refusal(400, "dag-scope must be block, entity or all")
    if entity is not None and scope != Scope.ENTITY:
        raise Refusal(400, "entity-bytes goes with dag-scope=entity only")
    return CarTerms(Scope(scope), entity, dups == "y")
