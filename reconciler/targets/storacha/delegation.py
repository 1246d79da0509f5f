"""UCAN delegations: issuer, audience, capabilities and time bounds. Signatures are for the service to verify.

A delegation is a UCAN 0.9 in DAG-CBOR, in one CAR with its proofs, the delegations that it rests on. As text
it is the base64 of an identity CID (`mAYIE…`, which the client calls a proof) or of the bare CAR (`u…`, for
the bridge).
Sources: the specifications ucan-ipld and w3-ucan-bridge; `delegation.archive` of ucanto.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.content import dag_cbor, varint
from reconciler.content.dag_cbor import CborLink, Value
from reconciler.content.multibase import encode_base58
from reconciler.errors import DataError

# multicodec codes
_CAR, _IDENTITY, _SHA256 = 0x0202, 0x00, 0x12
_ED25519 = b"\xed\x01"
_ED25519_KEY = b"\x80\x26"
_OTHER_DID = b"\x9d\x1a"

_MAX_PROOFS = 64  # delegations that one may rest on; three or four are usual


@dataclass(frozen=True, slots=True)
class UcanCapability:
    """One capability: `ability` (`upload/add`, `upload/*`, `*`) on `resource`, usually the DID of a space."""

    ability: str
    resource: str


@dataclass(frozen=True, slots=True)
class Delegation:
    """A UCAN by which `issuer` delegates `capabilities` to `audience`; both are DIDs.

    `expires` is the earliest expiration of the delegation and its proofs, as far as the archive contains
    them, and `not_before` the latest start (both UTC; None: no bound). `car` is the whole archive.
    """

    issuer: str
    audience: str
    capabilities: tuple[UcanCapability, ...]
    expires: datetime | None
    car: bytes
    not_before: datetime | None = None

    def allows(self, ability: str, space: str) -> bool:
        """Return whether a capability covers `ability` on `space`."""
        return any(
            each.resource in (space, "ucan:*") and _covers(each.ability, ability)
            for each in self.capabilities
        )

    def is_expired(self, now: datetime) -> bool:
        """Return whether the delegation has expired at `now`."""
        return self.expires is not None and self.expires <= now

    def is_too_early(self, now: datetime) -> bool:
        """Return whether the delegation is not valid yet at `now`."""
        return self.not_before is not None and self.not_before > now


def read_proof(text: str) -> Delegation:
    """Read the delegation in a proof of the client (`mAYIE…`). Raises DataError."""
    data = _decode_multibase(text, "m")
    version, at = varint.decode(data)
    codec, at = varint.decode(data, at)
    code, at = varint.decode(data, at)
    size, at = varint.decode(data, at)
    if (version, codec, code, size) != (1, _CAR, _IDENTITY, len(data) - at):
        raise DataError("not the identity CID of a CAR, or truncated")
    return read_archive(data[at:])


def read_authorization(text: str) -> Delegation:
    """Read the delegation in an Authorization header of the bridge (`u…`). Raises DataError."""
    return read_archive(_decode_multibase(text, "u", b"-_"))


def read_principal(text: str) -> str:
    """Return the DID of a private key, which the client calls a principal (`Mg…`). Raises DataError."""
    data = _decode_multibase(text, "M")
    if len(data) != 68 or data[:2] != _ED25519_KEY or data[34:36] != _ED25519:
        raise DataError("not an ed25519 key")
    return format_did(data[34:])


def read_archive(car: bytes) -> Delegation:
    """Read the delegation that is the root of `car`. Raises DataError."""
    root, blocks = _read_car(car)
    ucan = _decode_map(_get_block(blocks, root))
    variants = [value for name, value in ucan.items() if name.startswith("ucan@")]
    if variants and isinstance(variants[0], CborLink):
        ucan = _decode_map(_get_block(blocks, variants[0].cid))
    chain = list(_proof_chain(ucan, blocks))
    ends = [end for one in chain if (end := _time(one, "exp")) is not None]
    starts = [start for one in chain if (start := _time(one, "nbf")) is not None]
    capabilities = tuple(_capabilities(ucan))
    if not capabilities:
        raise DataError("the delegation has no capabilities")
    return Delegation(
        format_did(_bytes(ucan, "iss")),
        format_did(_bytes(ucan, "aud")),
        capabilities,
        min(ends, default=None),
        car,
        max(starts, default=None),
    )


def format_did(data: bytes) -> str:
    """Return the text of a DID in its binary form. Raises DataError."""
    if data.startswith(_OTHER_DID):
        return f"did:{data[len(_OTHER_DID) :].decode('utf-8', 'replace')}"
    if not data.startswith(_ED25519) and len(data) > 64:
        raise DataError("not the binary form of a DID")
    return f"did:key:z{encode_base58(data)}"


def _covers(granted: str, ability: str) -> bool:
    return granted in ("*", ability) or (granted.endswith("/*") and ability.startswith(granted[:-1]))


def _decode_multibase(text: str, prefix: str, altchars: bytes = b"+/") -> bytes:
    if not text.startswith(prefix):
        raise DataError(f"does not begin with {prefix!r}")
    body = text[1:].rstrip("=")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), altchars, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("not base64, or truncated") from None


# --- CAR


def _read_car(car: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the root and the blocks of a CAR, by binary CID.

    Raises DataError for a block that does not match its CID.
    """
    size, at = varint.decode(car)
    header = _decode_map(car[at : at + size])
    roots = header.get("roots")
    if header.get("version") != 1 or not isinstance(roots, list) or len(roots) != 1:
        raise DataError("not a CAR with one root")
    root = roots[0]
    if not isinstance(root, CborLink):
        raise DataError("not a CAR with one root")
    at += size
    found: dict[bytes, bytes] = {}
    while at < len(car):
        size, at = varint.decode(car, at)
        if size > len(car) - at:
            raise DataError("the CAR is truncated")
        end = at + size
        cid, at = _read_cid(car, at, end)
        found[cid] = car[at:end]
        at = end
    return root.cid, found


def _read_cid(car: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Return the CID at `at` and the position after it; `end` is the end of its block."""
    begin = at
    version, at = varint.decode(car, at)
    _, at = varint.decode(car, at)
    code, at = varint.decode(car, at)
    size, at = varint.decode(car, at)
    if version != 1 or at + size > end:
        raise DataError("the CAR has an invalid CID")
    digest, at = car[at : at + size], at + size
    if code == _SHA256 and hashlib.sha256(car[at:end]).digest() != digest:
        raise DataError("the CAR has a damaged block")
    return car[begin:at], at


def _get_block(blocks: dict[bytes, bytes], cid: bytes) -> bytes:
    if cid not in blocks:
        raise DataError("the CAR does not contain the delegation")
    return blocks[cid]


# --- fields of a UCAN


def _decode_map(data: bytes) -> dict[str, Value]:
    value = dag_cbor.decode(data)
    if not isinstance(value, dict):
        raise DataError("not a delegation: its root is not a map")
    return value


def _bytes(ucan: dict[str, Value], key: str) -> bytes:
    value = ucan.get(key)
    if not isinstance(value, bytes):
        raise DataError(f"not a delegation: {key!r} is missing")
    return value


def _capabilities(ucan: dict[str, Value]) -> Iterator[UcanCapability]:
    """Yield the capabilities in `att` (attenuations); malformed ones are left out."""
    listed = ucan.get("att")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            ability, resource = one.get("can"), one.get("with")
            if isinstance(ability, str) and isinstance(resource, str):
                yield UcanCapability(ability, resource)


def _proof_chain(ucan: dict[str, Value], blocks: dict[bytes, bytes]) -> Iterator[dict[str, Value]]:
    """Yield `ucan` and, as far as `blocks` contains them, the delegations that it rests on."""
    waiting, seen = [ucan], set[bytes]()
    while waiting:
        one = waiting.pop()
        yield one
        proofs = one.get("prf")
        for link in proofs if isinstance(proofs, list) else ():
            if (
                isinstance(link, CborLink)
                and link.cid in blocks
                and link.cid not in seen
                and len(seen) < _MAX_PROOFS
            ):
                seen.add(link.cid)
                waiting.append(_decode_map(blocks[link.cid]))


def _time(ucan: dict[str, Value], key: str) -> datetime | None:
    """Return the time at `key` (Unix seconds); None when it is missing, or beyond the calendar."""
    seconds = ucan.get(key)
    if seconds is None:
        return None
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise DataError(f"not a delegation: {key!r} is not a time")
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None
