"""Which response format a client wants: `?format=` first, then the Accept header.

Source: the trustless gateway specification, IPIP-412 (order and dups of a CAR), IPIP-523 (the URL wins).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.gateway.refusal import Refusal

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
class Wanted:
    """The format, and whether it was named by the Accept header alone (then Content-Location is due).

    `parameters` are those of the CAR media type, such as {"order": "dfs", "dups": "y"}.
    """

    format: Format
    by_header: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


def negotiate(query: str | None, accept: str) -> Wanted:
    """What `?format=` (None: absent) and the Accept header ask for together. Raises Refusal (400, 406)."""
    if len(accept) > _MAX_ACCEPT:
        raise Refusal(400, "the Accept header is too long")
    ranges = _parse(accept)
    if query is not None:
        if query in _UNKNOWN_WORDS:
            raise Refusal(
                406, f"format {query} is not served here; ask for raw or car and convert it yourself"
            )
        if query not in (Format.RAW, Format.CAR):
            raise Refusal(400, "unknown format; this gateway serves raw and car")
        wanted = Format(query)
        parameters = next((p for kind, p in ranges if _TYPES.get(kind) is wanted), {})
        return Wanted(wanted, parameters=parameters)
    unknown = ""
    for kind, parameters in ranges:
        if kind in _TYPES:
            return Wanted(_TYPES[kind], by_header=True, parameters=parameters)
        if kind in _UNKNOWN:
            unknown = unknown or kind
        else:  # anything else can be answered with the content itself, as browsers and curl want it
            return Wanted(Format.CONTENT)
    if unknown:
        raise Refusal(
            406, f"{_UNKNOWN[unknown]} is not served here; ask for raw or car and convert it yourself"
        )
    return Wanted(Format.CONTENT)


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
