"""The CARv1 reader for untrusted input: bounded, strict, every block hashed before it is handed out.

    header  = varint length, dag-cbor {"roots": [CID], "version": 1}
    section = varint length, CID, block                               repeated to the end

Source: IPLD specification of CARv1. Narrower than that, on purpose: exactly one root, raw and dag-pb blocks
with sha2-256 only (so no identity CIDs), and no padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from reconciler.content import cid as cids
from reconciler.content import varint
from reconciler.content.cid import Cid
from reconciler.content.profile import MAX_CAR_HEADER, MAX_CAR_SECTION
from reconciler.errors import DataError

_CAR_V2 = b"\xa1\x67version\x02"  # the header of a CARv2, behind its length
_ROOTS = b"\xa2\x65roots"
_VERSION = b"\x67version"
_CID_TAG = b"\xd8\x2a\x58"  # tag 42 over a byte string with a one-byte length; the string begins with 00
_CBOR_ARRAY = 0x80
_LONGEST_CID = 36  # nothing longer is known here
_ADVICE_V2 = "a CARv2 holds a CARv1; unwrap it, for example with `ipfs dag import` and `ipfs dag export`"


@dataclass(frozen=True, slots=True)
class Section:
    """One verified block: `offset` is where its own bytes begin in the CAR."""

    cid: Cid
    offset: int
    data: bytes


class CarReader:
    """A CAR read once from front to back; iterate over it for its sections.

    `root` is what the header says and nothing more: whether the blocks make up that DAG, the caller finds
    out. The constructor and the iteration raise DataError for anything that does not hold, truncation
    included. Without `hashing` blocks are not verified, which then is the caller's to do.
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int | None = None, hashing: bool = True) -> None:
        self.offset = 0  #: bytes consumed so far
        self._stream = stream
        self._max_bytes = max_bytes
        self._hashing = hashing
        self.root = self._header()

    def __iter__(self) -> Iterator[Section]:
        while (section := self._section()) is not None:
            yield section

    def _header(self) -> Cid:
        length = self._varint(MAX_CAR_HEADER, "header")
        if not length:
            raise DataError("not a CAR: it begins with an empty header or is empty")
        header = self._exactly(length, "header")
        if header == _CAR_V2:
            raise DataError("this is a CARv2; only CARv1 is read here", hint=_ADVICE_V2)
        return _root(header)

    def _section(self) -> Section | None:
        start = self.offset
        length = self._varint(MAX_CAR_SECTION, f"section at byte {start}")
        if length is None:
            return None
        if length == 0:
            hint = "zeros behind the last block are no part of a CAR"
            raise DataError(f"CAR section at byte {start} is empty", hint=hint)
        body_start = self.offset
        body = self._exactly(length, f"section at byte {start}")
        try:
            cid, end = cids.decode_at(body[:_LONGEST_CID], 0)
        except DataError as error:
            raise DataError(f"CAR section at byte {start}: {error.message}") from None
        data = body[end:]
        if self._hashing and not cid.matches(data):
            raise DataError(f"CAR section at byte {start}: the bytes are not those of block {cid}")
        return Section(cid, body_start + end, data)

    def _varint(self, limit: int, what: str) -> int | None:
        """A length; None when the CAR ends before it."""
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

    def _exactly(self, size: int, what: str) -> bytes:
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
            raise DataError(f"CAR is longer than the {self._max_bytes} bytes it may have")
        return part


def _root(header: bytes) -> Cid:
    """The one root in a CARv1 header (dag-cbor in its canonical form)."""
    if not header.startswith(_ROOTS):
        raise DataError("not a CAR: its header is not the canonical dag-cbor of roots and version")
    offset = len(_ROOTS)
    count = header[offset] - _CBOR_ARRAY if offset < len(header) else -1
    if not 0 <= count < 32:
        raise DataError("CAR header: its roots are no list")
    if count != 1:
        raise DataError(f"CAR header has {count if count < 24 else 'many'} roots; exactly one is read here")
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
