"""A codec of the UnixFS `Data` message in a dag-pb node, which defines the kind of the node.

The encoder writes type, data, filesize, blocksizes (unpacked), hashType and fanout, in the order of their
field numbers, and never mode or mtime. The decoder is strict: unknown fields, repeated single fields and
trailing bytes are errors. It skips mode and mtime, which change neither bytes nor names. Source: ipfs/specs
`src/unixfs.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from reconciler.content import varint
from reconciler.content.dagpb import field_bytes
from reconciler.errors import DataError

MURMUR3 = 0x22  #: multihash code of murmur3-x64-64, the only hash of HAMT keys


_TYPE, _DATA, _FILE_SIZE, _BLOCK_SIZE, _HASH_TYPE, _FANOUT, _MODE, _MTIME = (
    0x08, 0x12, 0x18, 0x20, 0x28, 0x30, 0x38, 0x42,
)  # fmt: skip
_NUMBERS = frozenset((_TYPE, _FILE_SIZE, _BLOCK_SIZE, _HASH_TYPE, _FANOUT, _MODE))


class UnixFsType(IntEnum):
    """UnixFS node types with their numbers in the message."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


@dataclass(frozen=True, slots=True)
class UnixFs:
    """One decoded message.

    `data` is inline file bytes (file, raw), the target (symlink) or the bitfield (HAMT shard).
    `file_size` and `block_sizes` count file bytes, one block size per link. Missing numbers are None.
    """

    kind: UnixFsType
    data: bytes = b""
    file_size: int | None = None
    block_sizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None


_KINDS = frozenset(UnixFsType)
DIRECTORY = b"\x08\x01"  #: the message of every basic directory


def file(block_sizes: Iterable[int]) -> bytes:
    """Encode an inner node of a file whose children have `block_sizes` file bytes."""
    sizes = tuple(block_sizes)
    return encode(UnixFs(UnixFsType.FILE, file_size=sum(sizes), block_sizes=sizes))


def hamt_shard(bitfield: int, fanout: int) -> bytes:
    """Encode a HAMT shard; bit i of `bitfield` is set when slot i is used."""
    field = bitfield.to_bytes((bitfield.bit_length() + 7) // 8, "big")
    return encode(UnixFs(UnixFsType.HAMT_SHARD, field, hash_type=MURMUR3, fanout=fanout))


def encode(message: UnixFs) -> bytes:
    """Encode `message` of any kind."""
    parts = [b"\x08", varint.encode(message.kind)]
    if message.data:
        parts += (b"\x12", varint.encode(len(message.data)), message.data)
    if message.file_size is not None:
        parts += (b"\x18", varint.encode(message.file_size))
    for size in message.block_sizes:
        parts += (b"\x20", varint.encode(size))
    if message.hash_type is not None:
        parts += (b"\x28", varint.encode(message.hash_type))
    if message.fanout is not None:
        parts += (b"\x30", varint.encode(message.fanout))
    return b"".join(parts)


def decode(data: bytes) -> UnixFs:
    """Decode the data of a dag-pb node. Raises DataError."""
    numbers: dict[int, int] = {}
    content: bytes | None = None
    block_sizes: list[int] = []
    mtime_seen = False
    offset = 0
    while offset < len(data):
        tag = data[offset]
        if tag in (_DATA, _MTIME):
            value, offset = field_bytes(data, offset + 1)
            if (tag == _DATA and content is not None) or (tag == _MTIME and mtime_seen):
                raise DataError("UnixFS message has a repeated field")
            if tag == _DATA:
                content = value
            else:
                mtime_seen = True
        elif tag in _NUMBERS:
            number, offset = varint.decode(data, offset + 1)
            if tag == _BLOCK_SIZE:
                block_sizes.append(number)
            elif tag in numbers:
                raise DataError("UnixFS message has a repeated field")
            else:
                numbers[tag] = number
        else:
            raise DataError(f"UnixFS message has an unknown field or wire type (tag {tag:#04x})")
    if _TYPE not in numbers:
        raise DataError("UnixFS message has no type")
    if numbers[_TYPE] not in _KINDS:
        raise DataError(f"unknown UnixFS type {numbers[_TYPE]}")
    return UnixFs(
        UnixFsType(numbers[_TYPE]),
        content or b"",
        numbers.get(_FILE_SIZE),
        tuple(block_sizes),
        numbers.get(_HASH_TYPE),
        numbers.get(_FANOUT),
    )
