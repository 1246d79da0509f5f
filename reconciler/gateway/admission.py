"""The load on a running gateway: its limits, the admission of requests, and counters for Prometheus.

Source of the counters' format: the text exposition format of Prometheus, version 0.0.4.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.gateway.request import RequestRefusedError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "reconciler_gateway"


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """Limits of a running gateway.

    A body that is being sent holds two blocks of at most 2 MiB, one that waits for a slow client a single
    one.
    """

    requests: int = 512  #: concurrent requests; further ones get 503
    requests_a_client: int = 256  #: concurrent requests of one address; further ones get 429
    bodies: int = 8  #: bodies being sent at once; further ones wait for their turn
    head_seconds: float = 20.0  #: in which a client must send the head of a request
    stall_seconds: float = 60.0  #: in which a client must accept some bytes of a body


class Admission:
    """The admission of requests up to the limits. Used from one event loop."""

    def __init__(self, limits: ServeLimits) -> None:
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self.active = 0

    @contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """Count a request while it is processed. Raises RequestRefusedError (429, 503)."""
        if self.active >= self._limits.requests:
            raise RequestRefusedError(503, "too many concurrent requests", {"Retry-After": "2"})
        if self._clients[client] >= self._limits.requests_a_client:
            raise RequestRefusedError(
                429, "too many concurrent requests from this address", {"Retry-After": "2"}
            )
        self.active += 1
        self._clients[client] += 1
        try:
            yield
        finally:
            self.active -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]


class Metrics:
    """Counters since the start. Used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._doors: Counter[tuple[str, str, int]] = Counter()
        self._sent = 0
        self._cut_off = 0
        self.active = 0

    def count_response(self, kind: str, status: int) -> None:
        """Count a response; `kind` is content, raw, car or other."""
        with self._lock:
            self._requests[kind, status] += 1

    def count_door(self, door: str, model: str, status: int) -> None:
        """Count a response of a door; `model` is a model of the index, "" when the request names none."""
        with self._lock:
            self._doors[door, model, status] += 1

    def count_sent(self, size: int) -> None:
        """Count `size` bytes of a body."""
        with self._lock:
            self._sent += size

    def count_cut_off(self) -> None:
        """Count a response that could not be completed."""
        with self._lock:
            self._cut_off += 1

    def text(self, *, roots: int, blocks: int) -> str:
        """Return the page at /metrics."""
        with self._lock:
            return "\n".join((*self._lines(roots, blocks), ""))

    def _lines(self, roots: int, blocks: int) -> Iterator[str]:
        yield from _metric_head("requests_total", "counter", "Responses by kind and status.")
        for (kind, status), number in sorted(self._requests.items()):
            yield f'{_PREFIX}_requests_total{{kind="{kind}",status="{status}"}} {number}'
        if self._doors:
            yield from _metric_head("door_requests_total", "counter", "Responses by door, model and status.")
        for (door, model, status), number in sorted(self._doors.items()):
            labels = f'door="{door}",model="{model}",status="{status}"'
            yield f"{_PREFIX}_door_requests_total{{{labels}}} {number}"
        for name, kind, text, value in (
            ("sent_bytes_total", "counter", "Bytes of bodies sent.", self._sent),
            ("cut_off_total", "counter", "Responses cut off: a block missing or damaged.", self._cut_off),
            ("requests_active", "gauge", "Requests being processed.", self.active),
            ("roots", "gauge", "Pinned roots in the stores.", roots),
            ("blocks", "gauge", "Blocks in the stores.", blocks),
        ):
            yield from _metric_head(name, kind, text)
            yield f"{_PREFIX}_{name} {value}"


def _metric_head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {_PREFIX}_{name} {text}", f"# TYPE {_PREFIX}_{name} {kind}"
