"""The one function piece hashing spends its time in, and who does it: the seam between fast and everywhere.

An engine turns up to half a mebibyte into the root of one subtree; `piece_hash` does the rest. `make_engine`
takes the vectorised one where the extra `native` is installed and gives the right answer here, else the one
of the standard library. Both give the same bytes.
"""

from __future__ import annotations

from typing import Protocol

from reconciler.content.piece_cid import capacity

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
    from reconciler.content.piece_stdlib import StdlibEngine

    plain = StdlibEngine()
    fast = _lanes()
    if fast is None or fast.root(_SAMPLE, 7) != plain.root(_SAMPLE, 7):
        return plain
    # Asked twice: the second answer must come from the second question, not from what was left of the first.
    return fast if fast.root(_SAMPLE[1:], 7) == plain.root(_SAMPLE[1:], 7) else plain


def _lanes() -> PieceEngine | None:
    try:
        from reconciler.content.piece_lanes import LanesEngine

        return LanesEngine()
    except (ImportError, AttributeError, TypeError, ValueError):  # not installed, or not as we know it
        return None
