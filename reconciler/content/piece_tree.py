"""Subtrees of a piece: fr32 padding, hashing of nodes, and the interface of the engines that compute them.

Padding (fr32): each 127 bytes are four numbers of 254 bits, little-endian, and each is widened to 32 bytes by
two zero bits on top. A node is the sha256 of its two children with those two bits zeroed. Source: the
Filecoin specification, sections on fr32 padding and commitments.

An engine computes the root of one subtree of up to STRETCH bytes; `piece_hash` folds these roots.
`StdlibEngine` works everywhere; `piece_lanes` is faster and needs the extra `native`; results are equal.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Protocol

from reconciler.content.piece_cid import NODE_SIZE, capacity

STRETCH_HEIGHT = 14  #: height of the largest subtree that an engine computes
STRETCH = capacity(STRETCH_HEIGHT)  #: bytes of data in it, half a mebibyte less padding

_QUARTER = (1 << 254) - 1
_QUARTERS = tuple(_QUARTER << 254 * number for number in range(4))
_TRUNCATE = bytes(byte & 0x3F for byte in range(256))


class PieceEngine(Protocol):
    """A calculator of subtrees. One engine is used by one thread at a time."""

    name: str
    parallel: bool  #: releases the interpreter lock while it hashes

    def root(self, data: bytes | bytearray, height: int) -> bytes:
        """Return the 32-byte root of the subtree of `height` over `data`, filled up with zero bytes.

        `data` has 1 to `capacity(height)` bytes, `height` is MIN_HEIGHT to STRETCH_HEIGHT.
        """


def hash_nodes(left: bytes, right: bytes) -> bytes:
    """Return the parent of two nodes."""
    digest = hashlib.sha256(left + right).digest()
    return digest[:31] + bytes((digest[31] & 0x3F,))


@cache
def zero_node(height: int) -> bytes:
    """Return the root of a subtree of `height` (>= 0) over zero bytes only."""
    return bytes(NODE_SIZE) if height == 0 else hash_nodes(zero_node(height - 1), zero_node(height - 1))


class StdlibEngine:
    """An engine with one `hashlib.sha256` for each node."""

    name = "hashlib"
    parallel = False  # hashlib keeps the interpreter lock for messages as short as 64 bytes

    def root(self, data: bytes | bytearray, height: int) -> bytes:
        """See PieceEngine."""
        level = _pad_fr32(data)
        for depth in range(height):
            if len(level) % (2 * NODE_SIZE):
                level += zero_node(depth)
            level = _hash_level(level)
        return bytes(level)


def _pad_fr32(data: bytes | bytearray) -> bytearray:
    """Return the leaves of `data`, filled up with zero bytes to a multiple of 127."""
    first, second, third, fourth = _QUARTERS
    leaves = bytearray()
    for start in range(0, len(data), 127):
        bits = int.from_bytes(data[start : start + 127], "little")
        wide = bits & first | (bits & second) << 2 | (bits & third) << 4 | (bits & fourth) << 6
        leaves += wide.to_bytes(4 * NODE_SIZE, "little")
    return leaves


def _hash_level(level: bytearray) -> bytearray:
    """Return the parents of the nodes in `level`, which are an even number."""
    sha256 = hashlib.sha256
    pair = 2 * NODE_SIZE
    parents = bytearray().join(
        [sha256(level[start : start + pair]).digest() for start in range(0, len(level), pair)]
    )
    parents[31::NODE_SIZE] = parents[31::NODE_SIZE].translate(_TRUNCATE)
    return parents
