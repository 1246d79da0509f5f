"""A strict decoder of DAG-CBOR, for UCAN delegations and IPNS records.

Source: the DAG-CBOR specification of IPLD (a subset of RFC 8949).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from reconciler.errors import DataError

_DEPTH = 32  # maximum nesting; a delegation has five levels
_LINK = 42  # the only tag of DAG-CBOR


@dataclass(frozen=True, slots=True)
class CborLink:
    """A link: a binary CID with any codec and hash."""

    cid: bytes


Value = int | float | bool | str | bytes | CborLink | None | list["Value"] | dict[str, "Value"]


def decode(data: bytes) -> Value:
    """Decode the single value that `data` consists of. Raises DataError."""
    value, end = _value(data, 0, _DEPTH)
    if end != len(data):
        raise DataError(f"DAG-CBOR with {len(data) - end} trailing bytes")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    if depth == 0:
        raise DataError("DAG-CBOR nested too deeply")
    major, argument, simple, at = _head(data, at)
    if major == 0:
        return argument, at
    if major == 1:
        return -1 - argument, at
    if major in (2, 3):
        raw, at = _take(data, at, argument)
        return (raw, at) if major == 2 else (_text(raw), at)
    if major == 4:
        found: list[Value] = []
        for _ in range(argument):
            item, at = _value(data, at, depth - 1)
            found.append(item)
        return found, at
    if major == 5:
        return _map(data, at, argument, depth)
    if major == 6:
        return _link(data, at, argument, depth)
    if simple in (20, 21, 22):
        return {20: False, 21: True, 22: None}[simple], at
    if simple == 27:
        number: float = struct.unpack(">d", argument.to_bytes(8, "big"))[0]
        return number, at
    raise DataError(f"DAG-CBOR with unsupported simple value {simple}")


def _head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Decode a head: major type, argument, the low five bits, and the offset after it."""
    first, at = _take(data, at, 1)
    major, low = first[0] >> 5, first[0] & 0x1F
    if low < 24:
        return major, low, low, at
    if low > 27:
        raise DataError("DAG-CBOR of indefinite length")
    raw, at = _take(data, at, 1 << (low - 24))
    return major, int.from_bytes(raw, "big"), low, at


def _take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - at:
        raise DataError("DAG-CBOR is truncated")
    return data[at : at + size], at + size


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise DataError("DAG-CBOR with text that is not UTF-8") from None


def _map(data: bytes, at: int, count: int, depth: int) -> tuple[Value, int]:
    found: dict[str, Value] = {}
    for _ in range(count):
        key, at = _value(data, at, depth - 1)
        if not isinstance(key, str) or key in found:
            raise DataError("DAG-CBOR map with a key that is not text, or is repeated")
        found[key], at = _value(data, at, depth - 1)
    return found, at


def _link(data: bytes, at: int, tag: int, depth: int) -> tuple[Value, int]:
    raw, at = _value(data, at, depth - 1)
    if tag != _LINK or not isinstance(raw, bytes) or raw[:1] != b"\0":
        raise DataError(f"DAG-CBOR with tag {tag} that is not a link")
    return CborLink(raw[1:]), at
