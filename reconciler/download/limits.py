"""The limits of a download: connections to one source and altogether, and the rate of all of them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_CONNECTIONS = 32  #: to one source, by default
MOST_OVERALL = 64  #: to all sources, unless more are allowed to a single one
CONNECTIONS_LIMIT = 256  #: the largest number that can be configured
_RATE = re.compile(r"(\d{1,9})([KMG]?)(?:i?B)?(?:/s)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """At most `connections` to one source, and `max_rate` bytes per second from all; 0: no limit."""

    connections: int = MOST_CONNECTIONS
    max_rate: int = 0

    @property
    def overall(self) -> int:
        """The most connections to all sources together."""
        return max(MOST_OVERALL, self.connections)


DEFAULT_LIMITS = DownloadLimits()


def parse_rate(text: str) -> int | None:
    """Return the bytes per second that `text` names, as in `500K`, `20M` or `1G`; None for anything else.

    Units are powers of 1024, as in `curl --limit-rate`. "0" is 0: no limit.
    """
    found = _RATE.fullmatch(text.strip())
    return None if found is None else int(found[1]) * _UNITS[found[2].upper()]


class RateLimit:
    """A token bucket of `rate` bytes per second, which holds at most a quarter of a second; 0: no limit."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._full_at = 0.0  # the moment at which everything that was taken has been paid for

    def take(self, size: int, now: float) -> float:
        """Take `size` bytes at the moment `now`; return the seconds to wait before the next are taken."""
        if not self._rate:
            return 0.0
        self._full_at = max(self._full_at, now - 0.25) + size / self._rate
        return max(0.0, self._full_at - now)
