"""Aggregates with inclusion proofs, built without shortcuts: all nodes of a small tree in memory."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from reconciler.content.piece_cid import PieceCid
from reconciler.content.piece_tree import hash_nodes, zero_node
from reconciler.deals.interface import InclusionProof, MerklePath


class Aggregate:
    """A tree of `height` with `pieces` one after the other, and the index of segments at its end."""

    def __init__(self, pieces: Sequence[PieceCid], height: int) -> None:
        self.pieces = tuple(pieces)
        self.height = height
        self._nodes: dict[tuple[int, int], bytes] = {}  # by level and index; missing nodes are zeros
        self._places: list[int] = []
        offset = 0
        for piece in pieces:
            step = 1 << piece.height
            at = -(-offset // step)
            self._set(piece.height, at, piece.root)
            self._places.append(at)
            offset = (at + 1) * step
        entries = max(4, (32 << height) // 2048 // 64)
        self._index_start = (1 << (height - 1)) - entries
        for number, (piece, at) in enumerate(zip(pieces, self._places, strict=True)):
            size = piece.padded_size
            plain = piece.root + struct.pack("<QQ", at * size, size)
            check = bytearray(hashlib.sha256(plain + bytes(16)).digest()[:16])
            check[-1] &= 0x3F
            self._set(1, self._index_start + number, hash_nodes(plain[:32], plain[32:] + bytes(check)))
        self.cid = PieceCid(self._get(height, 0), height, 0)

    def proof(self, number: int) -> InclusionProof:
        """Return the proof that piece `number` is in the aggregate."""
        piece = self.pieces[number]
        return InclusionProof(
            piece,
            self.cid,
            self._path(piece.height, self._places[number]),
            self._path(1, self._index_start + number),
        )

    def _path(self, level: int, at: int) -> MerklePath:
        siblings = tuple(self._get(up, (at >> (up - level)) ^ 1) for up in range(level, self.height))
        return MerklePath(at, siblings)

    def _get(self, level: int, at: int) -> bytes:
        return self._nodes.get((level, at), zero_node(level))

    def _set(self, level: int, at: int, value: bytes) -> None:
        self._nodes[level, at] = value
        for up in range(level + 1, self.height + 1):
            at >>= 1
            self._nodes[up, at] = hash_nodes(self._get(up - 1, 2 * at), self._get(up - 1, 2 * at + 1))
