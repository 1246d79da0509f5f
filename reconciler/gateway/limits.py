"""What one client, and all of them together, may cost this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.gateway.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a running gateway.

    A body in work holds two blocks of at most 2 MiB, one that waits for a slow client a single one.
    """

    requests: int = 512  #: answered at once; more get 503
    requests_a_client: int = 256  #: of one address; more get 429
    bodies: int = 8  #: in work at once; more wait for their turn
    head_seconds: float = 20.0  #: in which a client must have sent the head of a request, or it is dropped
    stall_seconds: float = 60.0  #: in which a client must take a piece, or it is dropped


class Admission:
    """Counts requests under way; used from one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self.active = 0

    @contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """Hold a place while the request is answered. Raises Refusal (429, 503)."""
        if self.active >= self._limits.requests:
            raise Refusal(503, "too many requests at once", {"Retry-After": "2"})
        if self._clients[client] >= self._limits.requests_a_client:
            raise Refusal(429, "too many requests at once from this address", {"Retry-After": "2"})
        self.active += 1
        self._clients[client] += 1
        try:
            yield
        finally:
            self.active -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
