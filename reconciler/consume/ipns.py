"""IPNS records: who a name belongs to is in the name, so a record proves itself, whoever hands it out.

    name    = CIDv1, codec libp2p-key, of the public key; an Ed25519 key is in there whole (identity hash)
    record  = protobuf: 8 signatureV2, 9 data (DAG-CBOR: Value, Validity, ValidityType, Sequence, TTL), and
              the fields of version 1, which nobody signs any more
    signed  = "ipns-signature:" + data

Source: the IPNS IpnsRecord and Protocol specification (specs.ipfs.tech), and libp2p's for keys. Only Ed25519,
the kind that every node makes by itself. Checking a signature needs the extra `ipns`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from reconciler.content import cid as cids
from reconciler.content import dag_cbor, dagpb, varint
from reconciler.errors import DataError, ReconcilerError, UsageError

RECORD_LIMIT = 10 << 10  #: bytes of a record, as the specification has it

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_KEY_IN_CID = b"\x01\x72\x00\x24"  # CIDv1, libp2p-key, identity hash of 36 bytes
_ED25519 = b"\x08\x01\x12\x20"  # PublicKey {type: Ed25519, data: 32 bytes}
_SIGNED = b"ipns-signature:"
_SIGNATURE, _DATA = 8, 9
_LENGTH_DELIMITED, _VARINT = 2, 0
_EOL = 0


@dataclass(frozen=True, slots=True)
class Name:
    """An IPNS name as it was written, and the Ed25519 key in it (32 bytes)."""

    text: str
    key: bytes


@dataclass(frozen=True, slots=True)
class IpnsRecord:
    """What the owner of a name signed: the path it means, until when, and which of their records it is."""

    value: str
    until: datetime
    sequence: int


@runtime_checkable
class KnowsNames(Protocol):
    """A source that hands out IPNS records."""

    name: str

    def ipns_record(self, name: str) -> bytes:
        """The record of `name`, not verified. Raises PeerError."""


def parse_name(text: str) -> Name:
    """The name `k51…` (base 36) or `bafz…` (base 32). Raises UsageError for a domain name or another key."""
    if "." in text:
        raise UsageError(
            f"{text!r} is a domain name, whose DNSLink nobody signs",
            hint="give the name of a key (k51…), or an https:// address",
        )
    try:
        data = _base36(text[1:]) if text.startswith("k") else cids.decode_base32(text)
    except (DataError, ValueError):
        data = b""
    if not data.startswith(_KEY_IN_CID + _ED25519) or len(data) != 40:
        raise UsageError(
            f"{text!r} is no IPNS name of an Ed25519 key",
            hint="it is 62 characters, k51 first: `ipfs key list -l` shows those of a node",
        )
    return Name(text, data[8:])


def read_record(name: Name, data: bytes, now: datetime) -> IpnsRecord:
    """The record in `data`, if the key in `name` signed it and it holds at `now`.

    Raises DataError where it does not, UsageError without the extra `ipns`.
    """
    if len(data) > RECORD_LIMIT:
        raise DataError(f"IPNS record of {len(data)} bytes; the limit is {RECORD_LIMIT}")
    fields = dict(_fields(data))
    signature, signed = fields.get(_SIGNATURE, b""), fields.get(_DATA, b"")
    if not signature or not signed:
        raise DataError("IPNS record without a signature of version 2")
    _verify(name.key, signature, _SIGNED + signed)
    record = _read(signed)
    if record.until <= now:
        raise DataError(f"IPNS record of {name.text} held until {record.until:%Y-%m-%d %H:%M} UTC")
    return record


def _verify(key: bytes, signature: bytes, message: bytes) -> None:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise UsageError(
            "an ipns:// name needs the extra `ipns`, which checks who signed its record",
            hint="pip install 'model-reconciler[ipns]'",
        ) from None
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise DataError("IPNS record that the owner of the name did not sign") from None


def _read(signed: bytes) -> IpnsRecord:
    found = dag_cbor.decode(signed)
    if not isinstance(found, dict):
        raise DataError("IPNS record whose data is no map")
    value, validity, sequence = found.get("Value"), found.get("Validity"), found.get("Sequence")
    if (
        not isinstance(value, bytes)
        or not isinstance(validity, bytes)
        or not isinstance(sequence, int)
        or found.get("ValidityType") != _EOL
    ):
        raise DataError("IPNS record that lacks a value, a sequence, or the time until which it holds")
    try:
        seconds, _, _ = validity.decode("ascii").removesuffix("Z").partition(".")  # to the nanosecond
        until = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        return IpnsRecord(value.decode("ascii"), until, sequence)
    except ValueError:
        raise DataError("IPNS record whose time or value cannot be read") from None


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The protobuf fields that are bytes; numbers are skipped."""
    at = 0
    while at < len(data):
        tag, at = varint.decode(data, at)
        if tag & 7 == _VARINT:
            _, at = varint.decode(data, at)
        elif tag & 7 == _LENGTH_DELIMITED:
            value, at = dagpb.field_bytes(data, at)
            yield tag >> 3, value
        else:
            raise DataError("IPNS record that is no protobuf of one")


def _base36(text: str) -> bytes:
    if not text or text.strip(_BASE36):
        raise DataError("not base36")
    number = int(text, 36)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def newest(name: Name, sources: list[KnowsNames], now: datetime) -> IpnsRecord:
    """The record with the highest sequence that any of `sources` has. Raises what the last of them raised."""
    best: IpnsRecord | None = None
    failure: ReconcilerError | None = None
    for source in sources:
        try:
            record = read_record(name, source.ipns_record(name.text), now)
        except UsageError:
            raise
        except DataError as error:
            failure = DataError(f"{source.name}: {error.message}")
        except ReconcilerError as error:
            failure = error
        else:
            if best is None or record.sequence > best.sequence:
                best = record
    if best is None:
        raise failure or UsageError(f"no source for ipns://{name.text}", hint="name a gateway with --gateway")
    return best
