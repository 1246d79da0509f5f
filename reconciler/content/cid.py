"""CIDs, parsed and printed strictly.

Only raw and dag-pb blocks hashed with sha2-256 are supported; every other codec or hash is an error. A CIDv0
is read as the CIDv1 of the same block. Canonical text is CIDv1 in lower-case base32.
Source: the multiformats CID specification.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from reconciler.content import multibase, varint
from reconciler.errors import DataError

RAW = 0x55
DAG_PB = 0x70
SHA2_256 = 0x12
IDENTITY = 0x00

CODEC_NAMES = {RAW: "raw", DAG_PB: "dag-pb", 0x71: "dag-cbor", 0x72: "libp2p-key", 0x0202: "car"}

BINARY_SIZE = 36  #: bytes of a binary CIDv1 with a one-byte codec and sha2-256
_PREFIXES = {RAW: b"\x01\x55\x12\x20", DAG_PB: b"\x01\x70\x12\x20"}
_TEXT_SIZE = 59
_V0_TEXT_SIZE = 46
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """The address of one block: `codec` (RAW or DAG_PB) and the 32-byte sha2-256 `digest` of its bytes."""

    codec: int
    digest: bytes

    def __bytes__(self) -> bytes:
        """Return the 36 bytes of the binary CIDv1."""
        return _PREFIXES[self.codec] + self.digest

    def __str__(self) -> str:
        return multibase.encode_base32(bytes(self))

    def matches(self, *data: bytes | memoryview) -> bool:
        """Whether `data`, its parts joined, is the block that this CID addresses."""
        hasher = hashlib.sha256()
        for part in data:
            hasher.update(part)
        return hasher.digest() == self.digest


def hash_block(codec: int, data: bytes) -> Cid:
    """Return the CID of the block `data`."""
    return Cid(codec, hashlib.sha256(data).digest())


def parse(text: str) -> Cid:
    """Parse a CID from CIDv1 base32 (canonical) or CIDv0 text.

    Raises DataError, worded for a user, for anything else: another base, codec or hash, a wrong length, upper
    case, or non-zero trailing bits.
    """
    if len(text) > _MAX_TEXT:
        raise DataError(f"not a CID: longer than {_MAX_TEXT} characters")
    is_v0 = len(text) == _V0_TEXT_SIZE and text.startswith("Qm")
    if not is_v0 and not text.startswith("b"):
        raise DataError(
            f"not a CID in base32: {text!r}",
            hint="write it as CIDv1 in lower-case base32, beginning with 'b'",
        )
    try:
        data = multibase.decode_base58(text) if is_v0 else multibase.decode_base32(text)
    except DataError as error:
        raise DataError(f"not a CID: {error.message}") from None
    cid = decode(data)
    if not is_v0 and len(text) != _TEXT_SIZE:
        raise DataError(f"not a canonical CID: {text!r}")
    return cid


def parse_canonical(text: str) -> Cid:
    """Parse a CID from canonical text only: CIDv1, base32, raw or dag-pb, sha2-256. Raises DataError."""
    cid = parse(text)
    if not text.startswith("b"):  # `parse` accepts base32 in its one canonical form only
        raise DataError(
            f"CIDv0 {text!r} is not accepted here", hint=f"the same CID in canonical form is {cid}"
        )
    return cid


def decode(data: bytes) -> Cid:
    """Decode the whole of `data` as a binary CID. Raises DataError, also for trailing bytes."""
    cid, end = decode_at(data, 0)
    if end != len(data):
        raise DataError("trailing bytes after the CID")
    return cid


def decode_at(data: bytes | memoryview, offset: int) -> tuple[Cid, int]:
    """Decode the binary CID at `offset`; return it and the offset after it. Raises DataError."""
    if bytes(data[offset : offset + 2]) == b"\x12\x20":  # CIDv0 is a bare multihash
        codec, start = DAG_PB, offset + 2
    else:
        prefix = bytes(data[offset : offset + 4])
        if prefix == _PREFIXES[RAW]:
            codec, start = RAW, offset + 4
        elif prefix == _PREFIXES[DAG_PB]:
            codec, start = DAG_PB, offset + 4
        else:
            raise DataError(_explain_unsupported(data, offset))
    digest = bytes(data[start : start + 32])
    if len(digest) != 32:
        raise DataError("CID is truncated")
    return Cid(codec, digest), start + 32


def _explain_unsupported(data: bytes | memoryview, offset: int) -> str:
    """Describe which part of the CID at `offset` is not supported."""
    version, offset = varint.decode(data, offset)
    if version != 1:
        return f"unknown CID version {version}"
    codec, offset = varint.decode(data, offset)
    if codec not in _PREFIXES:
        name = CODEC_NAMES.get(codec, hex(codec))
        return f"CID has codec {name}; only raw and dag-pb are supported"
    code, offset = varint.decode(data, offset)
    if code != SHA2_256:
        return f"CID has hash {code:#x}; only sha2-256 is supported"
    length, _ = varint.decode(data, offset)
    return f"CID has a sha2-256 digest of {length} bytes instead of 32"
