"""Subtrees of a piece with the standard library alone.

Padding (fr32): each 127 bytes are four numbers of 254 bits, little-endian, and each is widened to 32 bytes by
two zero bits on top. A node is the sha256 of its two children with those two bits zeroed. Source: the
Filecoin specification, sections on fr32 padding and commitments.

Subtrees of a piece with numpy and the multi-lane SHA-256 of stringzilla (the extra `native`).

stringzilla hashes many messages side by side, up to sixteen in one AVX-512 register, and reads them where a
`Strs` keeps them, in one contiguous tape. So each level of the tree has a tape, made once; numpy writes the
leaves into the lowest and every level's digests go straight into the tape above. `make_engine` checks the
answer, because writing to a tape is nothing stringzilla promises.

The one function piece hashing spends its time in, and who does it: the seam between fast and everywhere.

An engine turns up to half a mebibyte into the root of one subtree; `piece_hash` does the rest. `make_engine`
takes the vectorised one where the extra `native` is installed and gives the right answer here, else the one
of the standard library. Both give the same bytes.
"""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from typing import Any, Protocol

import numpy as np
import stringzilla

from reconciler.content.piece_cid import MIN_HEIGHT, NODE_SIZE, capacity

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


_GROUP = 127  # bytes of data that become four leaves
_GROUP_WORDS = 16  # 64-bit words of four leaves
_TOP_CLEAR = np.uint64((1 << 62) - 1)


class LanesEngine:
    """All nodes of a level side by side."""

    name = "stringzilla"
    parallel = True

    def __init__(self) -> None:
        self._levels = [_Level(1 << (STRETCH_HEIGHT - 1 - depth)) for depth in range(STRETCH_HEIGHT)]
        groups = 1 << (STRETCH_HEIGHT - MIN_HEIGHT)
        self._leaves = self._levels[0].tape.view(np.uint64).reshape(groups, _GROUP_WORDS)
        self._rows = np.zeros((groups, 8 * _GROUP_WORDS), np.uint8)
        self._words = np.empty((_GROUP_WORDS, groups), np.uint64)
        self._wide = np.empty((_GROUP_WORDS, groups), np.uint64)
        self._low = np.empty((4, groups), np.uint64)
        self._top = np.empty((1, NODE_SIZE), np.uint8)

    def root(self, data: bytes | bytearray, height: int) -> bytes:
        """See PieceEngine."""
        if len(data) > capacity(height):
            raise ValueError(f"{len(data)} bytes do not fit a tree of height {height}")
        self._fill(data)
        for depth in range(height):
            self._levels[depth].hash_into(self._above(depth))
        return bytes(self._above(height - 1)[0])

    def _above(self, depth: int) -> Any:
        """Where the digests of level `depth` go: one row a node."""
        if depth + 1 == STRETCH_HEIGHT:
            return self._top
        return self._levels[depth + 1].tape.reshape(-1, NODE_SIZE)

    def _fill(self, data: bytes | bytearray) -> None:
        """Write the leaves of `data`, and zeros behind them."""
        whole, rest = divmod(len(data), _GROUP)
        given = np.frombuffer(data, np.uint8)
        self._rows[:whole, :_GROUP] = given[: whole * _GROUP].reshape(whole, _GROUP)
        self._rows[whole:] = 0
        if rest:
            self._rows[whole, :rest] = given[whole * _GROUP :]
        # Number k of the four begins 2 k bits before word 4 k: its words are made of two neighbours each.
        words, wide = self._words, self._wide
        words[:] = self._rows.view("<u8").T
        wide[:4] = words[:4]
        for number in (1, 2, 3):
            first, shift = 4 * number, np.uint64(2 * number)
            np.left_shift(words[first : first + 4], shift, out=wide[first : first + 4])
            np.right_shift(words[first - 1 : first + 3], np.uint64(64) - shift, out=self._low)
            wide[first : first + 4] |= self._low
        wide[3::4] &= _TOP_CLEAR
        self._leaves[:] = wide.T


class _Level:
    """`pairs` pairs of nodes, one after the other in `tape`, and the lanes that hash them."""

    def __init__(self, pairs: int) -> None:
        pair = bytes(2 * NODE_SIZE)
        self._messages = stringzilla.Strs([pair] * pairs)
        size = self._messages.tape_nbytes
        if size != len(pair) * pairs:
            raise ValueError(f"a tape of {size} bytes for {pairs} messages of {len(pair)}")
        memory = (ctypes.c_uint8 * size).from_address(self._messages.tape_address)
        self.tape = np.ctypeslib.as_array(memory)
        self._lanes = stringzilla.Sha256s(pairs)

    def hash_into(self, rows: Any) -> None:
        """Put the parent of each pair into its row of `rows`, 32 bytes each."""
        self._lanes.reset().update(self._messages).digest(rows)
        rows[:, NODE_SIZE - 1] &= 0x3F


STRETCH_HEIGHT = 14  #: height of the largest subtree that an engine is asked for
STRETCH = capacity(STRETCH_HEIGHT)  #: bytes of data in it

_SAMPLE = bytes(range(256)) * 9


class PieceEngine(Protocol):
    """Makes subtrees. One engine is used by one thread at a time."""

    name: str
    parallel: bool  #: it lets other threads of Python run meanwhile

    def root(self, data: bytes | bytearray, height: int) -> bytes:
        """The 32-byte root of the subtree of `height` over `data`, zero bytes behind it.

        `data` has 1 to `capacity(height)` bytes, `height` is MIN_HEIGHT to STRETCH_HEIGHT.
        """


def make_engine() -> PieceEngine:
    """The quickest engine that works on this machine."""

    plain = StdlibEngine()
    fast = _lanes()
    if fast is None or fast.root(_SAMPLE, 7) != plain.root(_SAMPLE, 7):
        return plain
    # Asked twice: the second answer must come from the second question, not from what was left of the first.
    return fast if fast.root(_SAMPLE[1:], 7) == plain.root(_SAMPLE[1:], 7) else plain


def _lanes() -> PieceEngine | None:
    try:
        return LanesEngine()
    except (ImportError, AttributeError, TypeError, ValueError):  # not installed, or not as we know it
        return None
