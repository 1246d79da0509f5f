"""The memory of a pass over a source: buffers that are used again, within a limit of bytes.

Memory that comes fresh from the system for each segment costs as much time as receiving the bytes.
"""

from __future__ import annotations

from threading import Condition
from typing import cast


class SegmentMemory:
    """At most `limit` bytes at once, in buffers of `segment` bytes; what is much smaller gets its own.

    Usable from several threads; no more may be taken at once than fits by their footprints.
    """

    def __init__(self, segment: int, limit: int) -> None:
        self._segment = segment
        self._limit = limit
        self._used = 0
        self._idle: list[bytearray] = []
        self._returned = Condition()

    def footprint(self, size: int) -> int:
        """Return the bytes that memory of `size` bytes counts for."""
        return self._segment if size > self._segment // 2 else size

    def take(self, size: int) -> memoryview:
        """Return memory of `size` bytes with any content; wait until there is room. 0 <= size <= segment."""
        with self._returned:
            self._returned.wait_for(lambda: self._fits(size))
            taken = self.footprint(size)
            self._used += taken
            buffer = self._idle.pop() if self._idle and taken == self._segment else bytearray(taken)
        return memoryview(buffer)[:size]

    def give_back(self, memory: memoryview) -> None:
        """Give back memory that `take` returned, when nothing reads it any more."""
        buffer = cast("bytearray", memory.obj)
        with self._returned:
            self._used -= len(buffer)
            if len(buffer) == self._segment:
                self._idle.append(buffer)
            self._returned.notify_all()

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + self.footprint(size) <= self._limit
