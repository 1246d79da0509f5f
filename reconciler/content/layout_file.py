"""The file format of a `DagLayout`: the block index beside a stored CAR.

    magic     8 bytes   "RDLAYOUT"
    version   u32       1
    count     u32       blocks, at least one; the first is the root
    entries   37 bytes each: codec u8, size u32, digest 32 bytes       in CAR order
    trailer   32 bytes  sha2-256 of everything before it

All numbers are big-endian. The trailer detects damage, not tampering: readers of blocks by this index verify
each block.
"""

from __future__ import annotations

import hashlib
import struct

from reconciler.content.bounds import LIMITS, MAX_BLOCK
from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import DataError

_MAGIC = b"RDLAYOUT"
_VERSION = 1
_HEAD = struct.Struct(">8sII")
_ENTRY = struct.Struct(">BI32s")
_TRAILER = 32


def layout_to_bytes(layout: DagLayout) -> bytes:
    """Encode a complete `layout`."""
    out = bytearray(_HEAD.pack(_MAGIC, _VERSION, len(layout)))
    for block in layout:
        out += _ENTRY.pack(block.cid.codec, block.size, block.cid.digest)
    out += hashlib.sha256(out).digest()
    return bytes(out)


def layout_from_bytes(data: bytes) -> DagLayout:
    """Decode a layout. Raises DataError unless `data` is exactly what `layout_to_bytes` returns."""
    if len(data) < _HEAD.size + _TRAILER:
        raise DataError("block index is truncated")
    magic, version, count = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise DataError("not a block index")
    if version != _VERSION:
        raise DataError(f"block index has version {version}; only {_VERSION} is supported")
    body = memoryview(data)[:-_TRAILER]
    if not 0 < count <= LIMITS.blocks or len(body) != _HEAD.size + count * _ENTRY.size:
        raise DataError("length of the block index does not match its number of blocks")
    if hashlib.sha256(body).digest() != data[-_TRAILER:]:
        raise DataError("block index is damaged: its checksum differs")
    layout: DagLayout | None = None
    for codec, size, digest in _ENTRY.iter_unpack(body[_HEAD.size :]):
        if codec not in (RAW, DAG_PB) or size > MAX_BLOCK:
            raise DataError("block index contains a block with an invalid codec or size")
        cid = Cid(codec, digest)
        layout = layout or DagLayout(cid)
        if not layout.add(cid, size):
            raise DataError("block index contains a block twice")
    if layout is None:
        raise DataError("block index is empty")
    return layout
