"""Subtrees of a piece with the standard library alone.

Padding (fr32): each 127 bytes are four numbers of 254 bits, little-endian, and each is widened to 32 bytes by
two zero bits on top. A node is the sha256 of its two children with those two bits zeroed. Source: the
Filecoin specification, sections on fr32 padding and commitments.
"""

from __future__ import annotations

import hashlib
from functools import cache

from reconciler.content.piece_cid import NODE_SIZE

_QUARTER = (1 << 254) - 1
_QUARTERS = tuple(_QUARTER << 254 * number for number in range(4))
_TRUNCATE = bytes(byte & 0x3F for byte in range(256))


def node(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes."""
    digest = hashlib.sha256(left + right).digest()
    return digest[:31] + bytes((digest[31] & 0x3F,))


@cache
def zero_node(height: int) -> bytes:
    """The root of a subtree of `height` (>= 0) over nothing but zero bytes."""
    return bytes(NODE_SIZE) if height == 0 else node(zero_node(height - 1), zero_node(height - 1))


class StdlibEngine:
    """One `hashlib.sha256` a node."""

    name = "hashlib"
    parallel = False  # messages of 64 bytes are too short for hashlib to let others run

    def root(self, data: bytes | bytearray, height: int) -> bytes:
        """See PieceEngine."""
        level = _widened(data)
        for depth in range(height):
            if len(level) % (2 * NODE_SIZE):
                level += zero_node(depth)
            level = _parents(level)
        return bytes(level)


def _widened(data: bytes | bytearray) -> bytearray:
    """The leaves of `data`, zero bytes behind it up to a multiple of 127."""
    first, second, third, fourth = _QUARTERS
    leaves = bytearray()
    for start in range(0, len(data), 127):
        bits = int.from_bytes(data[start : start + 127], "little")
        wide = bits & first | (bits & second) << 2 | (bits & third) << 4 | (bits & fourth) << 6
        leaves += wide.to_bytes(4 * NODE_SIZE, "little")
    return leaves


def _parents(level: bytearray) -> bytearray:
    sha256 = hashlib.sha256
    pair = 2 * NODE_SIZE
    parents = bytearray().join(
        [sha256(level[start : start + pair]).digest() for start in range(0, len(level), pair)]
    )
    parents[31::NODE_SIZE] = parents[31::NODE_SIZE].translate(_TRUNCATE)
    return parents
