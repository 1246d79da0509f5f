"""Subtrees of a piece with numpy and the multi-lane SHA-256 of stringzilla (the extra `native`).

stringzilla hashes many messages side by side, up to sixteen in one AVX-512 register, and reads them where a
`Strs` keeps them, in one contiguous tape. So each level of the tree has a tape, allocated once; numpy writes
the leaves into the lowest, and the digests of every level are written straight into the tape above.
stringzilla does not document that a tape may be written to, so `piece_hash.make_engine` checks the result.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import stringzilla

from reconciler.content.piece_cid import MIN_HEIGHT, NODE_SIZE, capacity
from reconciler.content.piece_tree import STRETCH_HEIGHT

_GROUP = 127  # bytes of data that become four leaves
_GROUP_WORDS = 16  # 64-bit words of four leaves
_TOP_CLEAR = np.uint64((1 << 62) - 1)


class LanesEngine:
    """An engine that hashes all nodes of a level side by side."""

    name = "stringzilla"
    parallel = True

    def __init__(self) -> None:
        self._levels = [_LaneLevel(1 << (STRETCH_HEIGHT - 1 - depth)) for depth in range(STRETCH_HEIGHT)]
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
        """Return the array for the digests of level `depth`, one row for each node."""
        if depth + 1 == STRETCH_HEIGHT:
            return self._top
        return self._levels[depth + 1].tape.reshape(-1, NODE_SIZE)

    def _fill(self, data: bytes | bytearray) -> None:
        """Write the leaves of `data`, followed by zeros."""
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


class _LaneLevel:
    """A level of the tree: `pairs` pairs of nodes, contiguous in `tape`, and the lanes that hash them."""

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
        """Write the parent of each pair into its row of `rows`, 32 bytes each."""
        self._lanes.reset().update(self._messages).digest(rows)
        rows[:, NODE_SIZE - 1] &= 0x3F
