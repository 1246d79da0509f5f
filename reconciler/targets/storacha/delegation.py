"""What a delegation says: who may do what with which space, and until when. Signatures are the service's job.

A delegation is a UCAN 0.9 in DAG-CBOR, with the delegations it rests on, in one CAR. As text it is the
base64 of an identity CID (`mAYIE…`, what the client calls a proof) or of the bare CAR (`u…`, the bridge's).
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

_CAR, _IDENTITY, _SHA256 = 0x0202, 0x00, 0x12
_ED25519 = b"\xed\x01"
_ED25519_KEY = b"\x80\x26"
_OTHER_DID = b"\x9d\x1a"
_CHAIN = 64  # delegations that one may rest on; it is three or four


@dataclass(frozen=True, slots=True)
class Grant:
    """One capability (`upload/add`, `upload/*`, `*`) for one resource, a space's DID as a rule."""

    can: str
    resource: str


@dataclass(frozen=True, slots=True)
class Delegation:
    """`audience` may do what `grants` say until `expires` (UTC; None: for ever), as its `issuer` wants.

    `expires` is the earliest end of all the delegations it rests on, as far as these came along, and `begins`
    the latest beginning (None: long ago). `car` is the whole archive.
    """

    issuer: str
    audience: str
    grants: tuple[Grant, ...]
    expires: datetime | None
    car: bytes
    begins: datetime | None = None

    def allows(self, can: str, space: str) -> bool:
        """Whether some grant covers the capability `can` of `space`."""
        return any(grant.resource in (space, "ucan:*") and _covers(grant.can, can) for grant in self.grants)

    def expired(self, now: datetime) -> bool:
        """Whether it is over at `now`."""
        return self.expires is not None and self.expires <= now

    def early(self, now: datetime) -> bool:
        """Whether it does not hold yet at `now`."""
        return self.begins is not None and self.begins > now


def read_proof(text: str) -> Delegation:
    """The delegation in a proof of the client. Raises DataError."""
    data = _decoded(text, "m")
    version, at = varint.decode(data)
    codec, at = varint.decode(data, at)
    code, at = varint.decode(data, at)
    size, at = varint.decode(data, at)
    if (version, codec, code, size) != (1, _CAR, _IDENTITY, len(data) - at):
        raise DataError("not the identity CID of a CAR, or cut short")
    return read_archive(data[at:])


def read_authorization(text: str) -> Delegation:
    """The delegation in an Authorization header of the bridge. Raises DataError."""
    return read_archive(_decoded(text, "u", b"-_"))


def read_principal(text: str) -> str:
    """The DID of the private key that the client calls a principal (`Mg…`). Raises DataError."""
    data = _decoded(text, "M")
    if len(data) != 68 or data[:2] != _ED25519_KEY or data[34:36] != _ED25519:
        raise DataError("not an ed25519 key")
    return did(data[34:])


def read_archive(car: bytes) -> Delegation:
    """The delegation that is the root of `car`. Raises DataError."""
    root, blocks = _blocks(car)
    first = _record(_block(blocks, root))
    variants = [value for name, value in first.items() if name.startswith("ucan@")]
    if variants and isinstance(variants[0], CborLink):
        first = _record(_block(blocks, variants[0].cid))
    chain = list(_chain(first, blocks))
    ends = [end for one in chain if (end := _time(one, "exp")) is not None]
    begins = [begin for one in chain if (begin := _time(one, "nbf")) is not None]
    grants = tuple(_grants(first))
    if not grants:
        raise DataError("delegates nothing")
    return Delegation(
        did(_bytes(first, "iss")),
        did(_bytes(first, "aud")),
        grants,
        min(ends, default=None),
        car,
        max(begins, default=None),
    )


def did(data: bytes) -> str:
    """The text of a DID in its binary form. Raises DataError."""
    if data.startswith(_OTHER_DID):
        return f"did:{data[len(_OTHER_DID) :].decode('utf-8', 'replace')}"
    if not data.startswith(_ED25519) and len(data) > 64:
        raise DataError("not the binary form of a DID")
    return f"did:key:z{encode_base58(data)}"


def _covers(granted: str, can: str) -> bool:
    return granted in ("*", can) or (granted.endswith("/*") and can.startswith(granted[:-1]))


def _decoded(text: str, prefix: str, altchars: bytes = b"+/") -> bytes:
    if not text.startswith(prefix):
        raise DataError(f"does not begin with {prefix!r}")
    body = text[1:].rstrip("=")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), altchars, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("not base64, or cut short") from None


def _blocks(car: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Root and blocks of a CAR, by binary CID; blocks that do not hash to theirs are refused."""
    size, at = varint.decode(car)
    header = _record(car[at : at + size])
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
            raise DataError("a CAR that is cut short")
        end = at + size
        cid, at = _cid(car, at, end)
        found[cid] = car[at:end]
        at = end
    return root.cid, found


def _cid(car: bytes, at: int, end: int) -> tuple[bytes, int]:
    begin = at
    version, at = varint.decode(car, at)
    _, at = varint.decode(car, at)
    code, at = varint.decode(car, at)
    size, at = varint.decode(car, at)
    if version != 1 or at + size > end:
        raise DataError("a CAR with a bad CID")
    digest, at = car[at : at + size], at + size
    if code == _SHA256 and hashlib.sha256(car[at:end]).digest() != digest:
        raise DataError("a CAR with a damaged block")
    return car[begin:at], at


def _block(blocks: dict[bytes, bytes], cid: bytes) -> bytes:
    if cid not in blocks:
        raise DataError("a CAR without the block that it is about")
    return blocks[cid]


def _record(data: bytes) -> dict[str, Value]:
    value = dag_cbor.decode(data)
    if not isinstance(value, dict):
        raise DataError("not a delegation: its root is no map")
    return value


def _bytes(ucan: dict[str, Value], key: str) -> bytes:
    value = ucan.get(key)
    if not isinstance(value, bytes):
        raise DataError(f"not a delegation: it has no {key!r}")
    return value


def _grants(ucan: dict[str, Value]) -> Iterator[Grant]:
    listed = ucan.get("att")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            can, resource = one.get("can"), one.get("with")
            if isinstance(can, str) and isinstance(resource, str):
                yield Grant(can, resource)


def _chain(first: dict[str, Value], blocks: dict[bytes, bytes]) -> Iterator[dict[str, Value]]:
    """`first` and the delegations it rests on, as far as they are there."""
    waiting, seen = [first], set[bytes]()
    while waiting:
        one = waiting.pop()
        yield one
        proofs = one.get("prf")
        for link in proofs if isinstance(proofs, list) else ():
            if (
                isinstance(link, CborLink)
                and link.cid in blocks
                and link.cid not in seen
                and len(seen) < _CHAIN
            ):
                seen.add(link.cid)
                waiting.append(_record(blocks[link.cid]))


def _time(ucan: dict[str, Value], key: str) -> datetime | None:
    moment = ucan.get(key)
    if moment is None:
        return None
    if not isinstance(moment, int) or isinstance(moment, bool):
        raise DataError(f"not a delegation: its {key!r} is no time")
    try:
        return datetime.fromtimestamp(moment, UTC)
    except (OverflowError, OSError, ValueError):
        return None  # beyond every calendar
