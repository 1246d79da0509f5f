"""Merkle trees of a log: hashes, roots, inclusion and consistency proofs (RFC 6962, section 2).

    leaf   SHA-256(0x00 ‖ entry)
    node   SHA-256(0x01 ‖ left ‖ right), split at the largest power of two below the number of leaves
    empty  SHA-256 of nothing

A complete subtree is named by its level and its number there: level 0 are the leaves. Proofs are made from
such hashes, which `ReadHash` returns, and verified without them (RFC 9162, 2.1.3.2 and 2.1.4.2). All hashes
have 32 bytes. Everything here is pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from reconciler.errors import DataError

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_SIZE = 1 << 40  #: leaves of a log that is read

#: returns the hash of the complete subtree with this level and number
ReadHash = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class GrowingTree:
    """The root of a tree that grows leaf by leaf, in memory that is logarithmic in its size."""

    def __init__(self) -> None:
        self.size = 0
        self._complete: list[bytes] = []  # roots of the complete subtrees, the largest first

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        sha256, complete, size = hashlib.sha256, self._complete, self.size
        while size & 1:
            leaf = sha256(b"\x01" + complete.pop() + leaf).digest()
            size >>= 1
        complete.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of the leaves so far."""
        if not self._complete:
            return EMPTY_ROOT
        found = self._complete[-1]
        for left in reversed(self._complete[:-1]):
            found = node_hash(left, found)
        return found


def parents(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the level above a list of hashes; an odd one at the end has no parent yet."""
    sha256 = hashlib.sha256
    return [sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes) & ~1, 2)]


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of a list of leaf hashes."""
    tree = GrowingTree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def subtree_root(start: int, end: int, read: ReadHash) -> bytes:
    """Return the root of the leaves from `start` to `end`, where `start` begins a subtree of that size."""
    width = end - start
    if width < 1:
        return EMPTY_ROOT
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return read(level, start >> level)
    middle = start + _split(width)
    return node_hash(subtree_root(start, middle, read), subtree_root(middle, end, read))


def inclusion_proof(index: int, size: int, read: ReadHash) -> tuple[bytes, ...]:
    """Return the hashes from the sibling of leaf `index` upwards, in a tree of `size` leaves."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} of {size}")
    start, end, found = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append(subtree_root(middle, end, read))
            end = middle
        else:
            found.append(subtree_root(start, middle, read))
            start = middle
    return tuple(reversed(found))


def consistency_proof(old: int, new: int, read: ReadHash) -> tuple[bytes, ...]:
    """Return the hashes that show that the tree of `new` leaves begins with the tree of `old` leaves."""
    if not 0 <= old <= new:
        raise ValueError(f"from {old} to {new} leaves")
    if old in (0, new):
        return ()
    start, end, found = 0, new, []
    whole = True  # whether the old tree is exactly the range that remains
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            found.append(subtree_root(middle, end, read))
            end = middle
        else:
            found.append(subtree_root(start, middle, read))
            start, whole = middle, False
    if not whole:
        found.append(subtree_root(start, end, read))
    return tuple(reversed(found))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the tree of `size` leaves with `root` has the leaf hash `leaf` at `index`.

    Raises DataError.
    """
    if not 0 <= index < size:
        raise DataError(f"the proof is about leaf {index} of a log of {size}")
    number, last, found = index, size - 1, leaf
    for each in proof:
        if last == 0:
            raise DataError("the inclusion proof is too long")
        if number & 1 or number == last:
            found = node_hash(each, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, each)
        number, last = number >> 1, last >> 1
    if last:
        raise DataError("the inclusion proof is too short")
    if found != root:
        raise DataError(f"the inclusion proof does not lead from leaf {index} to the root of the log")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the tree of `new` leaves with `new_root` begins with that of `old` leaves with `old_root`.

    Raises DataError.
    """
    if not 0 <= old <= new:
        raise DataError(f"a log of {new} leaves cannot begin with one of {old}")
    if old in (0, new):
        expected = EMPTY_ROOT if old == 0 else new_root
        if proof or old_root != expected:
            raise DataError(f"the consistency proof from {old} to {new} leaves is wrong")
        return
    hashes = list(proof)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        raise DataError("the consistency proof is too short")
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    before = after = hashes[0]
    for each in hashes[1:]:
        if last == 0:
            raise DataError("the consistency proof is too long")
        if number & 1 or number == last:
            before, after = node_hash(each, before), node_hash(each, after)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            after = node_hash(after, each)
        number, last = number >> 1, last >> 1
    if last or before != old_root or after != new_root:
        raise DataError(f"the consistency proof from {old} to {new} leaves is wrong")


def _split(width: int) -> int:
    """Return the largest power of two below `width`, which is at least 2."""
    return 1 << ((width - 1).bit_length() - 1)
