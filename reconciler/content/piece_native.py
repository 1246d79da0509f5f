"""Subtrees of a piece with our own compiled module, in as many lanes as the processor's vectors have.

The module `reconciler_native` is a package of its own, built from `native/` where there is a C compiler; this
one works without it. The result is checked by `piece_hash.make_engine` like that of every other engine.
"""

from __future__ import annotations

import reconciler_native

from reconciler.content.piece_cid import capacity
from reconciler.content.piece_tree import StdlibEngine

_LOWEST = 6  # trees below this height are smaller than the lanes
_VECTOR_KERNELS = ("avx512", "sha")


def is_fastest() -> bool:
    """Return whether this processor has the instructions with which no other engine is faster."""
    return str(reconciler_native.kernels()[0]) in _VECTOR_KERNELS


class NativeEngine:
    """An engine in C, with the fastest `kernel` of the processor unless another is named."""

    parallel = True

    def __init__(self, kernel: str | None = None) -> None:
        self._kernel = str(reconciler_native.kernels()[0]) if kernel is None else kernel
        self.name = f"native {self._kernel}"
        self._small = StdlibEngine()

    def root(self, data: bytes | bytearray, height: int) -> bytes:
        """See PieceEngine."""
        size = capacity(height)
        if len(data) > size:
            raise ValueError(f"{len(data)} bytes do not fit a tree of height {height}")
        if height < _LOWEST:
            return self._small.root(data, height)
        if len(data) < size:
            data = bytes(data).ljust(size, b"\0")
        return bytes(reconciler_native.root(data, height, self._kernel))
