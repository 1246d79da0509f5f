"""CIDs: parsing and printing, strictly.

The reconciler knows two kinds of block, raw and dag-pb, hashed with sha2-256; every other codec or hash is an
error here. A CIDv0 is read as the CIDv1 of the same block. Canonical text is CIDv1 in lower-case base32.
Source: the multiformats CID specification.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from reconciler.content import varint
from reconciler.errors import DataError

RAW = 0x55
DAG_PB = 0x70
SHA2_256 = 0x12
IDENTITY = 0x00

CODEC_NAMES = {RAW: "raw", DAG_PB: "dag-pb", 0x71: "dag-cbor", 0x72: "libp2p-key", 0x0202: "car"}

BINARY_SIZE = 36  #: bytes of a binary CIDv1 with a one-byte codec and sha2-256
_PREFIXES = {RAW: b"\x01\x55\x12\x20", DAG_PB: b"\x01\x70\x12\x20"}
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_TO_DIGITS = str.maketrans(_BASE32, "0123456789abcdefghijklmnopqrstuv")
_TEXT_SIZE = 59
_V0_TEXT_SIZE = 46
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """The address of one block: `codec` (RAW or DAG_PB) and the 32-byte sha2-256 `digest` of its bytes."""

    codec: int
    digest: bytes

    def __bytes__(self) -> bytes:
        """The 36 bytes of the binary CIDv1."""
        return _PREFIXES[self.codec] + self.digest

    def __str__(self) -> str:
        return encode_base32(bytes(self))

    def matches(self, *data: bytes | memoryview) -> bool:
        """Whether `data`, one part behind the other, is the block this CID addresses."""
        hasher = hashlib.sha256()
        for part in data:
            hasher.update(part)
        return hasher.digest() == self.digest


def of(codec: int, data: bytes) -> Cid:
    """The CID of the block `data`."""
    return Cid(codec, hashlib.sha256(data).digest())


def parse(text: str) -> Cid:
    """A CID from CIDv1 base32 (canonical) or CIDv0 text.

    Raises DataError, worded for a user, for anything else: another base, codec or hash, a wrong length, upper
    case, or non-zero trailing bits.
    """
    if len(text) > _MAX_TEXT:
        raise DataError("not a CID: longer than 512 characters")
    if len(text) == _V0_TEXT_SIZE and text.startswith("Qm"):
        return decode(_base58(text))
    if not text.startswith("b"):
        raise DataError(
            f"not a CID in base32: {text!r}",
            hint="write it as CIDv1 in lower-case base32, beginning with 'b'",
        )
    cid = decode(decode_base32(text))
    if len(text) != _TEXT_SIZE:
        raise DataError(f"not a canonical CID: {text!r}")
    return cid


def parse_canonical(text: str) -> Cid:
    """A CID from canonical text only: CIDv1, base32, raw or dag-pb, sha2-256. Raises DataError."""
    cid = parse(text)
    if not text.startswith("b"):  # `parse` takes base32 in its one canonical form only
        raise DataError(
            f"CIDv0 {text!r} is not accepted here", hint=f"the same CID in canonical form is {cid}"
        )
    return cid


def decode(data: bytes) -> Cid:
    """A CID from its whole binary form. Raises DataError, also for trailing bytes."""
    cid, end = read(data, 0)
    if end != len(data):
        raise DataError("trailing bytes after the CID")
    return cid


def read(data: bytes | memoryview, offset: int) -> tuple[Cid, int]:
    """The binary CID at `offset` and the offset behind it. Raises DataError."""
    if bytes(data[offset : offset + 2]) == b"\x12\x20":  # CIDv0 is a bare multihash
        codec, start = DAG_PB, offset + 2
    else:
        prefix = bytes(data[offset : offset + 4])
        if prefix == _PREFIXES[RAW]:
            codec, start = RAW, offset + 4
        elif prefix == _PREFIXES[DAG_PB]:
            codec, start = DAG_PB, offset + 4
        else:
            raise DataError(_why_not(data, offset))
    digest = bytes(data[start : start + 32])
    if len(digest) != 32:
        raise DataError("CID is cut off")
    return Cid(codec, digest), start + 32


def _why_not(data: bytes | memoryview, offset: int) -> str:
    """What is foreign about the CID at `offset`, in words."""
    version, offset = varint.decode(data, offset)
    if version != 1:
        return f"unknown CID version {version}"
    codec, offset = varint.decode(data, offset)
    if codec not in _PREFIXES:
        name = CODEC_NAMES.get(codec, hex(codec))
        return f"CID has codec {name}; only raw and dag-pb are known here"
    code, offset = varint.decode(data, offset)
    if code != SHA2_256:
        return f"CID has hash {code:#x}; only sha2-256 is known here"
    length, _ = varint.decode(data, offset)
    return f"CID has a sha2-256 digest of {length} bytes instead of 32"


def encode_base32(data: bytes) -> str:
    """`data` as multibase text in lower-case base32 without padding, with its leading "b"."""
    return "b" + base64.b32encode(data).decode("ascii").rstrip("=").lower()


def decode_base32(text: str) -> bytes:
    """The bytes of multibase `text` in base32 ("b…"), in canonical form only. Raises DataError."""
    body = text[1:]
    if body != body.lower():
        raise DataError(f"not a CID in lower-case base32: {text!r}")
    if body.strip(_BASE32):
        raise DataError(f"not a CID: {text!r} is not base32")
    spare = len(body) * 5 % 8
    try:
        # Python reads base 32 with other digits, in linear time: an index of thousands of CIDs loads sooner
        number = int(body.translate(_TO_DIGITS), 32)
    except ValueError:
        raise DataError(f"not a CID: {text!r} is not base32") from None
    if spare >= 5 or number & ((1 << spare) - 1):
        raise DataError(f"not a canonical CID: {text!r} has non-zero trailing bits")
    return (number >> spare).to_bytes(len(body) * 5 // 8, "big")


def _base58(text: str) -> bytes:
    number = 0
    for character in text:
        digit = _BASE58.find(character)
        if digit < 0:
            raise DataError(f"not a CID: {character!r} in {text!r} is not base58")
        number = number * 58 + digit
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return b"\0" * (len(text) - len(text.lstrip("1"))) + body
