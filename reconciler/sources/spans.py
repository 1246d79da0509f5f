"""Spans of sources whose bytes come in pieces of their own."""

from __future__ import annotations

from collections.abc import Generator

LARGE_FILE = 4 << 20  #: bytes of a file from which parts are worth more than one connection


class PieceSpan:
    """The `pieces` of a file from byte `start` to before `end`."""

    def __init__(self, pieces: Generator[bytes | memoryview, None, None], start: int, end: int) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._left = end - start
        self.end = end

    def read_into(self, memory: memoryview) -> int:
        """Implement SourceSpan.read_into."""
        if self._left and not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(memory), len(self._rest))
        memory[:count], self._rest = self._rest[:count], self._rest[count:]
        self._left -= count
        if not self._left:  # what is read to its end leaves its connection reusable
            next(self._pieces, None)
        return count

    def close(self) -> None:
        """Implement SourceSpan.close."""
        self._pieces.close()
