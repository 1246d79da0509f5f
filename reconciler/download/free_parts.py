"""The units that no connection works on, in order. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from reconciler.download.work import FreePart


class FreeParts:
    """Free parts, the first units first; `size` is the bytes of all."""

    def __init__(self) -> None:
        self.size = 0
        self._heap: list[tuple[int, int, int, FreePart]] = []
        self._serial = 0

    def __iter__(self) -> Iterator[FreePart]:
        return (entry[3] for entry in self._heap)

    def put(self, part: FreePart) -> None:
        """Add a part, unless it is empty."""
        if part.start < part.stop:
            self._serial += 1
            self.size += part.size
            heapq.heappush(self._heap, (part.number, part.start, self._serial, part))

    def pop(
        self, source: int, *, reaches: Callable[[FreePart], bool], last_resort: Callable[[FreePart], bool]
    ) -> FreePart | None:
        """Remove and return the first part that a source may have; None when there is none.

        Parts from the first one on that `reaches` refuses stay. One next to units that the source lacks is
        returned when it is `last_resort` for it, and there is no other.
        """
        aside: list[tuple[int, int, int, FreePart]] = []
        found: tuple[int, int, int, FreePart] | None = None
        while self._heap:
            entry = heapq.heappop(self._heap)
            part = entry[3]
            if not reaches(part):
                aside.append(entry)
                break
            if source not in part.lacking and source not in part.shy:
                found = entry
                break
            aside.append(entry)
        if found is None:
            for entry in aside:
                part = entry[3]
                if source in part.shy - part.lacking and reaches(part) and last_resort(part):
                    found = entry
                    aside.remove(entry)
                    break
        for entry in aside:
            heapq.heappush(self._heap, entry)
        if found is None:
            return None
        self.size -= found[3].size
        return found[3]
