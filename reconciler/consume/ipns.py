"""IPNS records. A name contains its owner's public key, so a record is verified without trusting its source.

    name    = CIDv1, codec libp2p-key, of the public key; an Ed25519 key is contained whole (identity hash)
    record  = protobuf: 8 signatureV2, 9 data (DAG-CBOR: Value, Validity, ValidityType, Sequence, TTL), and
              the fields of version 1, which are no longer signed
    signed  = "ipns-signature:" + data

Source: the IPNS Record and Protocol specification (specs.ipfs.tech), and libp2p's for keys. Only Ed25519, the
default key type of IPFS nodes, is supported. Verifying a signature needs the extra `ipns`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from reconciler.content import dag_cbor, dagpb, multibase, varint
from reconciler.errors import DataError, ReconcilerError, UsageError

RECORD_LIMIT = 10 << 10  #: maximum size of a record in bytes, by the specification

_KEY_IN_CID = b"\x01\x72\x00\x24"  # CIDv1, libp2p-key, identity hash of 36 bytes
_ED25519 = b"\x08\x01\x12\x20"  # PublicKey {type: Ed25519, data: 32 bytes}
_SIGNED = b"ipns-signature:"
_SIGNATURE, _DATA = 8, 9
_LENGTH_DELIMITED, _VARINT = 2, 0
_EOL = 0


@dataclass(frozen=True, slots=True)
class IpnsName:
    """An IPNS name in its textual form, and the Ed25519 public key in it (32 bytes)."""

    text: str
    key: bytes


@dataclass(frozen=True, slots=True)
class IpnsRecord:
    """The signed content of a record: the path that the name resolves to, the end of its validity, and its
    sequence number.
    """

    value: str
    until: datetime
    sequence: int


@runtime_checkable
class IpnsSource(Protocol):
    """A source of IPNS records."""

    name: str

    def ipns_record(self, name: str) -> bytes:
        """Return the record of `name`, unverified. Raises PeerError."""


def parse_ipns_name(text: str) -> IpnsName:
    """Parse a name in base 36 (`k51…`) or base 32 (`bafz…`). Raises UsageError for a domain name or a key of
    another type.
    """
    if "." in text:
        raise UsageError(
            f"{text!r} is a domain name; DNSLink records are not signed",
            hint="use the name of a key (k51…), or an https:// address",
        )
    try:
        decode = multibase.decode_base36 if text.startswith("k") else multibase.decode_base32
        data = decode(text)
    except DataError:
        data = b""
    if not data.startswith(_KEY_IN_CID + _ED25519) or len(data) != 40:
        raise UsageError(
            f"{text!r} is not an IPNS name of an Ed25519 key",
            hint="a name has 62 characters and begins with k51; `ipfs key list -l` lists those of a node",
        )
    return IpnsName(text, data[8:])


def verify_record(name: IpnsName, data: bytes, now: datetime) -> IpnsRecord:
    """Parse the record in `data`, and verify that the key in `name` signed it and that it is valid at `now`.

    Raises DataError when it is malformed, not signed by the key or expired, and UsageError when the extra
    `ipns` is not installed.
    """
    if len(data) > RECORD_LIMIT:
        raise DataError(f"IPNS record of {len(data)} bytes; the limit is {RECORD_LIMIT}")
    fields = dict(_byte_fields(data))
    signature, signed = fields.get(_SIGNATURE, b""), fields.get(_DATA, b"")
    if not signature or not signed:
        raise DataError("IPNS record without a signature of version 2")
    _verify_signature(name.key, signature, _SIGNED + signed)
    record = _parse_data(signed)
    if record.until <= now:
        raise DataError(f"IPNS record of {name.text} expired at {record.until:%Y-%m-%d %H:%M} UTC")
    return record


def newest_record(name: IpnsName, sources: list[IpnsSource], now: datetime) -> IpnsRecord:
    """Return the valid record with the highest sequence number among those of `sources`.

    When there is none, raises the error of the last source.
    """
    best: IpnsRecord | None = None
    failure: ReconcilerError | None = None
    for source in sources:
        try:
            record = verify_record(name, source.ipns_record(name.text), now)
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


def _verify_signature(key: bytes, signature: bytes, message: bytes) -> None:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise UsageError(
            "verifying an ipns:// name needs the extra `ipns`", hint="pip install 'model-reconciler[ipns]'"
        ) from None
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise DataError("IPNS record that was not signed by the owner of the name") from None


def _parse_data(signed: bytes) -> IpnsRecord:
    """Parse the DAG-CBOR data of a record."""
    fields = dag_cbor.decode(signed)
    if not isinstance(fields, dict):
        raise DataError("IPNS record whose data is not a map")
    value, validity, sequence = fields.get("Value"), fields.get("Validity"), fields.get("Sequence")
    if (
        not isinstance(value, bytes)
        or not isinstance(validity, bytes)
        or not isinstance(sequence, int)
        or fields.get("ValidityType") != _EOL
    ):
        raise DataError("IPNS record without a value, a sequence number or an end of validity")
    try:
        seconds, _, _ = validity.decode("ascii").removesuffix("Z").partition(".")  # has nanoseconds
        until = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        return IpnsRecord(value.decode("ascii"), until, sequence)
    except ValueError:
        raise DataError("IPNS record with a malformed time or value") from None


def _byte_fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Iterate over the length-delimited protobuf fields as (number, value); skip varints."""
    at = 0
    while at < len(data):
        tag, at = varint.decode(data, at)
        if tag & 7 == _VARINT:
            _, at = varint.decode(data, at)
        elif tag & 7 == _LENGTH_DELIMITED:
            value, at = dagpb.field_bytes(data, at)
            yield tag >> 3, value
        else:
            raise DataError("IPNS record that is not the expected protobuf message")
