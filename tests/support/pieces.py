"""Piece CIDs of bytes that are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reconciler.content.piece_cid import PieceCid
from reconciler.content.piece_hash import PieceHasher, make_engine
from reconciler.content.piece_tree import PieceEngine


def piece_of(chunks: Iterable[bytes], engine: Callable[[], PieceEngine] = make_engine) -> PieceCid:
    """Return the piece CID of the bytes in `chunks`. Raises DataError when they are too few."""
    with PieceHasher(engine) as hasher:
        for chunk in chunks:
            hasher.update(chunk)
        return hasher.finish()
