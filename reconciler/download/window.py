"""The window of units that are given out before the first one that is needed next was used. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from reconciler.download.work import FreePart, UnitRun

_FULL = 0.5  # share of the window that waits to be used, from which it counts as full,
_FULL_FOR = 0.15  # seconds after which that tells something


class UnitWindow:
    """The `size` bytes of `runs`, in their order, from the first unit that was not used yet; 0: no limit."""

    def __init__(self, size: int, runs: Sequence[UnitRun]) -> None:
        self._size = size
        self._starts = [0]  # of the runs, in bytes of all
        for run in runs:
            self._starts.append(self._starts[-1] + (run.offsets[-1] - run.offsets[0] if run.units else 0))
        self._used = 0
        self._arrived = 0
        self._full_since = inf

    @property
    def is_limited(self) -> bool:
        """Whether there is a window at all."""
        return self._size > 0

    @property
    def total(self) -> int:
        """The bytes of all runs."""
        return self._starts[-1]

    def used(self, unit_bytes: int) -> None:
        """Note that the first `unit_bytes` bytes of all runs were used, which moves the window."""
        self._used = unit_bytes

    def arrived(self, size: int) -> None:
        """Count the bytes of a unit that is done."""
        self._arrived += size

    def share(self, part: FreePart, connections: int) -> float:
        """Return the most bytes of the beginning of a part for one of so many connections."""
        if not self._size:
            return inf
        return min(self._size // (max(1, connections) + 1), self._room_from(part))

    def allows(self, part: FreePart, working: int) -> bool:
        """Return whether a part begins far enough before the end of the window to be worth a request.

        That is half of the share of a connection beside those that are `working`; if none is, any room is
        enough.
        """
        if not self._size:
            return True
        room = self._room_from(part)
        return room > 0 and (not working or room >= min(part.size, self._size // (working + 1) // 2))

    def stays_full(self, now: float) -> bool:
        """Return whether units have waited to be used for a while; the next time for this is counted anew."""
        if not self._size or self._arrived - self._used <= _FULL * self._size:
            self._full_since = inf
            return False
        self._full_since = min(self._full_since, now)
        if now - self._full_since < _FULL_FOR:
            return False
        self._full_since = inf
        return True

    def _room_from(self, part: FreePart) -> int:
        """Return the bytes from the beginning of a part to the end of the window."""
        start = self._starts[part.number] + part.run.offsets[part.start] - part.run.offsets[0]
        return self._used + self._size - start
