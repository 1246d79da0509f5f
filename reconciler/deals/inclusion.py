"""Verification of inclusion proofs (PoDSI, FRC-0058). Pure.

A proof is valid when the tree of the piece is a subtree of the aggregate's tree, and the index of segments in
the last part of the aggregate lists the piece at that place. It does not cover the padding: two pieces with
the same tree share their proof.
"""

from __future__ import annotations

import hashlib
import struct

from reconciler.content.piece_cid import NODE_SIZE, check_node
from reconciler.content.piece_tree import hash_nodes
from reconciler.deals.interface import InclusionProof, MerklePath
from reconciler.errors import DataError

_ENTRY_HEIGHT = 1  # an entry of the index is two leaves
_ENTRY_SIZE = NODE_SIZE << _ENTRY_HEIGHT


def verify_inclusion(proof: InclusionProof) -> None:
    """Raise DataError, naming the failed check, unless `proof` is valid for its piece and aggregate."""
    piece, aggregate = proof.piece, proof.aggregate
    _check_path("subtree", proof.subtree, aggregate.height - piece.height)
    _check_path("index", proof.index, aggregate.height - _ENTRY_HEIGHT)
    if _root(piece.root, proof.subtree) != aggregate.root:
        raise DataError("inclusion proof: its subtree path does not lead to the aggregate")
    if proof.index.at * _ENTRY_SIZE < aggregate.padded_size - _index_size(aggregate.padded_size):
        raise DataError("inclusion proof: its entry lies outside the aggregate's index")
    entry = _entry(piece.root, proof.subtree.at * piece.padded_size, piece.padded_size)
    if _root(hash_nodes(entry[:NODE_SIZE], entry[NODE_SIZE:]), proof.index) != aggregate.root:
        raise DataError("inclusion proof: the aggregate's index does not list the piece at its place")


def _check_path(name: str, path: MerklePath, length: int) -> None:
    if len(path.siblings) != length:
        raise DataError(f"inclusion proof: its {name} path has {len(path.siblings)} nodes, not {length}")
    if not 0 <= path.at < 1 << length:
        raise DataError(f"inclusion proof: its {name} path begins outside the aggregate")
    for sibling in path.siblings:
        check_node(sibling)


def _root(lowest: bytes, path: MerklePath) -> bytes:
    at = path.at
    for sibling in path.siblings:
        lowest = hash_nodes(sibling, lowest) if at & 1 else hash_nodes(lowest, sibling)
        at >>= 1
    return lowest


def _entry(root: bytes, offset: int, size: int) -> bytes:
    """Return the 64-byte index entry of a segment at `offset` with `size`, both in padded bytes."""
    plain = root + struct.pack("<QQ", offset, size)
    checksum = bytearray(hashlib.sha256(plain + bytes(16)).digest()[:16])
    checksum[15] &= 0x3F
    return plain + checksum


def _index_size(padded_size: int) -> int:
    """Return the bytes of the index at the end of an aggregate: 1 in 2048, at least 4 entries."""
    entries = max(4, padded_size // 2048 // _ENTRY_SIZE)
    return entries * _ENTRY_SIZE
