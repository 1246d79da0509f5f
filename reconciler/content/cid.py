"""CIDs, parsed and printed strictly.

Only raw and dag-pb blocks hashed with sha2-256 are supported; every other codec or hash is an error. A CIDv0
is read as the CIDv1 of the same block, and a CIDv1 in whatever base it is written. Canonical text is CIDv1 in
lower-case base32. Sources: the multiformats CID specification; the multicodec table for names.
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

CODEC_NAMES = {
    RAW: "raw",
    DAG_PB: "dag-pb",
    0x71: "dag-cbor",
    0x72: "libp2p-key",
    0x78: "git-raw",
    0x0129: "dag-json",
    0x0202: "car",
}
HASH_NAMES = {
    IDENTITY: "identity",
    0x11: "sha1",
    SHA2_256: "sha2-256",
    0x13: "sha2-512",
    0x14: "sha3-512",
    0x15: "sha3-384",
    0x16: "sha3-256",
    0x17: "sha3-224",
    0x1B: "keccak-256",
    0x1E: "blake3",
    0x20: "sha2-384",
    0x56: "dbl-sha2-256",
    0xD5: "md5",
    0x1011: "fr32-sha256-trunc254-padbintree",
    0x1012: "sha2-256-trunc254-padded",
    0xB220: "blake2b-256",
    0xB240: "blake2b-512",
    0xB260: "blake2s-256",
}

BINARY_SIZE = 36  #: bytes of a binary CIDv1 with a one-byte codec and sha2-256
_V0_START = b"\x12\x20"  # a CIDv0 is a bare multihash
_PREFIXES = {RAW: b"\x01\x55\x12\x20", DAG_PB: b"\x01\x70\x12\x20"}
_TEXT_SIZE = 59
_V0_TEXT_SIZE = 46
_MAX_TEXT = 512
_SHORTEST_DIGEST = 16  # bytes; a shorter one is more likely another word that begins like a CID


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """The address of one block: `codec` (RAW or DAG_PB) and the 32-byte sha2-256 `digest` of its bytes."""

    codec: int
    digest: bytes

    def __hash__(self) -> int:
        return hash(self.digest)  # which bytes keep, unlike a tuple of both fields

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


class UnsupportedCidError(DataError):
    """A well-formed CID with a codec, a hash function or a digest length that is not supported."""


def v0_text(cid: Cid) -> str | None:
    """Return the CIDv0 of a dag-pb block; None for a raw block, which has none."""
    return multibase.encode_base58(_V0_START + cid.digest) if cid.codec == DAG_PB else None


def is_v0(text: str) -> bool:
    """Return whether `text` is written as a CIDv0."""
    return len(text) == _V0_TEXT_SIZE and text.startswith("Qm")


def parse(text: str) -> Cid:
    """Parse a CID as any program writes it: CIDv0, or CIDv1 in any base, in either case.

    Raises UnsupportedCidError for a CID with another codec or hash, DataError, worded for a user, for
    anything else.
    """
    if len(text) > _MAX_TEXT:
        raise DataError(f"not a CID: longer than {_MAX_TEXT} characters")
    old = is_v0(text)
    try:
        data = multibase.decode_base58(text) if old else multibase.decode(text)
    except DataError as error:
        raise DataError(f"not a CID: {error.message}") from None
    if not old and data[:1] == _V0_START[:1]:
        raise DataError(f"not a CID: {text!r} is a CIDv0 in a base other than base58btc")
    try:
        return decode(data)
    except UnsupportedCidError as error:
        raise UnsupportedCidError(f"{error.message}: {text!r}") from None


def parse_canonical(text: str) -> Cid:
    """Parse a CID from canonical text only: CIDv1, base32, raw or dag-pb, sha2-256. Raises DataError."""
    cid = parse(text)
    if len(text) != _TEXT_SIZE or not text.startswith("b") or not text.islower():
        written = "CIDv0" if text.startswith("Qm") else "the CID"
        raise DataError(
            f"{written} {text!r} is not accepted here", hint=f"the same CID in canonical form is {cid}"
        )
    return cid


def decode(data: bytes) -> Cid:
    """Decode the whole of `data` as a binary CID. Raises DataError, also for trailing bytes."""
    cid, end = decode_at(data, 0)
    if end != len(data):
        raise DataError("trailing bytes after the CID")
    return cid


def decode_at(data: bytes | memoryview, offset: int) -> tuple[Cid, int]:
    """Decode the binary CID at `offset`; return it and the offset after it.

    Raises DataError; UnsupportedCidError when the CID ends with `data` and is of an unsupported kind.
    """
    if bytes(data[offset : offset + 2]) == _V0_START:
        codec, start = DAG_PB, offset + 2
    else:
        prefix = bytes(data[offset : offset + 4])
        if prefix == _PREFIXES[RAW]:
            codec, start = RAW, offset + 4
        elif prefix == _PREFIXES[DAG_PB]:
            codec, start = DAG_PB, offset + 4
        else:
            raise _unsupported(data, offset)
    digest = bytes(data[start : start + 32])
    if len(digest) != 32:
        raise DataError("CID is truncated")
    return Cid(codec, digest), start + 32


def _unsupported(data: bytes | memoryview, offset: int) -> DataError:
    """Return the error for the CID at `offset`, which says what is not supported."""
    version, offset = varint.decode(data, offset)
    if version != 1:
        return DataError(f"unknown CID version {version}")
    codec, offset = varint.decode(data, offset)
    code, offset = varint.decode(data, offset)
    length, offset = varint.decode(data, offset)
    if codec not in _PREFIXES:
        name = CODEC_NAMES.get(codec, hex(codec))
        message = f"CID has codec {name}; only raw and dag-pb are supported"
    elif code != SHA2_256:
        name = f"{HASH_NAMES[code]} ({code:#x})" if code in HASH_NAMES else f"{code:#x}"
        message = f"CID has hash {name}; only sha2-256 is supported"
    else:
        message = f"CID has a sha2-256 digest of {length} bytes instead of 32"
    is_whole = len(data) - offset == length
    plausible = length >= _SHORTEST_DIGEST or (codec, code) == (RAW, IDENTITY)
    return UnsupportedCidError(message) if is_whole and plausible else DataError(message)
