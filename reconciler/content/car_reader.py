"""A CARv1 reader for untrusted input: bounded and strict; every block is hashed before it is returned.

    header  = varint length, dag-cbor {"roots": [CID], "version": 1}
    section = varint length, CID, block                               repeated to the end

Source: IPLD specification of CARv1. Deliberately narrower: exactly one root, raw and dag-pb blocks with
sha2-256 only (so no identity CIDs), and no padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from reconciler.content import cid as cids
from reconciler.content import varint
from reconciler.content.bounds import MAX_CAR_HEADER, MAX_CAR_SECTION
from reconciler.content.cid import Cid
from reconciler.errors import DataError

_CAR_V2 = b"\xa1\x67version\x02"  # the header of a CARv2, after its length
_ROOTS = b"\xa2\x65roots"
_VERSION = b"\x67version"
_CID_TAG = b"\xd8\x2a\x58"  # tag 42 over a byte string with a one-byte length; the string begins with 00
_CBOR_ARRAY = 0x80
_LONGEST_CID = 36  # no longer one is supported
_CAR_V2_HINT = "a CARv2 contains a CARv1; unwrap it, for example with `ipfs dag import` and `ipfs dag export`"


@dataclass(frozen=True, slots=True)
class Section:
    """One verified block; `offset` in the CAR is that of its own bytes."""

    cid: Cid
    offset: int
    data: bytes


class CarReader:
    """A CAR read once from front to back; iterate over it for its sections.

    `root` is taken from the header; the caller checks that the blocks form that DAG. The constructor and the
    iteration raise DataError for anything invalid, truncation included. Without `hashing`, the caller has to
    verify the blocks.
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int | None = None, hashing: bool = True) -> None:
        self.offset = 0  #: bytes consumed so far
        self._stream = stream
        self._max_bytes = max_bytes
        self._hashing = hashing
        self.root = self._read_header()

    def __iter__(self) -> Iterator[Section]:
        while (section := self._next_section()) is not None:
            yield section

    def _read_header(self) -> Cid:
        length = self._read_varint(MAX_CAR_HEADER, "header")
        if not length:
            raise DataError("not a CAR: its header is empty or missing")
        header = self._read_exactly(length, "header")
        if header == _CAR_V2:
            raise DataError("this is a CARv2; only CARv1 is supported", hint=_CAR_V2_HINT)
        return _root(header)

    def _next_section(self) -> Section | None:
        start = self.offset
        length = self._read_varint(MAX_CAR_SECTION, f"section at byte {start}")
        if length is None:
            return None
        if length == 0:
            hint = "a CAR must not be padded with zeros"
            raise DataError(f"CAR section at byte {start} is empty", hint=hint)
        body_start = self.offset
        body = self._read_exactly(length, f"section at byte {start}")
        try:
            cid, end = cids.decode_at(body[:_LONGEST_CID], 0)
        except DataError as error:
            raise DataError(f"CAR section at byte {start}: {error.message}") from None
        data = body[end:]
        if self._hashing and not cid.matches(data):
            raise DataError(f"CAR section at byte {start}: hash differs from that of block {cid}")
        return Section(cid, body_start + end, data)

    def _read_varint(self, limit: int, what: str) -> int | None:
        """Read a length; None when the CAR ends before it."""
        encoded = b""
        while not encoded or encoded[-1] >= 0x80:
            byte = self._read(1)
            if not byte:
                if not encoded:
                    return None
                raise DataError(f"CAR is truncated in its {what}")
            encoded += byte
            if len(encoded) > varint.MAX_BYTES:
                break
        try:
            value, _ = varint.decode(encoded)
        except DataError as error:
            raise DataError(f"CAR {what}: {error.message}") from None
        if value > limit:
            raise DataError(f"CAR {what} has {value} bytes; the limit is {limit}")
        return value

    def _read_exactly(self, size: int, what: str) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._read(size)
            if not part:
                raise DataError(f"CAR is truncated in its {what}")
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self.offset += len(part)
        if self._max_bytes is not None and self.offset > self._max_bytes:
            raise DataError(f"CAR is longer than the limit of {self._max_bytes} bytes")
        return part


def _root(header: bytes) -> Cid:
    """Return the only root in a CARv1 header (canonical dag-cbor)."""
    if not header.startswith(_ROOTS):
        raise DataError("not a CAR: its header is not a canonical dag-cbor map of roots and version")
    offset = len(_ROOTS)
    count = header[offset] - _CBOR_ARRAY if offset < len(header) else -1
    if not 0 <= count < 32:
        raise DataError("CAR header: the roots are not a list")
    if count != 1:
        raise DataError(f"CAR header has {count if count < 24 else 'many'} roots; exactly one is supported")
    offset += 1
    start = offset + len(_CID_TAG) + 1
    size = header[start - 1] if len(header) >= start else 0
    body = header[start : start + size]
    if header[offset : start - 1] != _CID_TAG or len(body) != size or not body.startswith(b"\0"):
        raise DataError("CAR header: the root is not a CID")
    rest = header[start + size :]
    if rest != _VERSION + b"\x01":
        raise DataError("CAR header does not end with version 1")
    try:
        return cids.decode(body[1:])
    except DataError as error:
        raise DataError(f"CAR header: {error.message}") from None
