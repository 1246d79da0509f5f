"""Counters in the text format of Prometheus. Source: its exposition format, version 0.0.4."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "reconciler_gateway"


class Metrics:
    """What happened since the start. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._sent = 0
        self._cut_off = 0
        self.active = 0

    def answered(self, kind: str, status: int) -> None:
        """One answer began; `kind` is content, raw, car or other."""
        with self._lock:
            self._requests[kind, status] += 1

    def sent(self, size: int) -> None:
        """`size` bytes of a body went out."""
        with self._lock:
            self._sent += size

    def cut_off(self) -> None:
        """An answer could not be finished."""
        with self._lock:
            self._cut_off += 1

    def text(self, *, roots: int, blocks: int) -> str:
        """The page at /metrics."""
        with self._lock:
            return "\n".join((*self._lines(roots, blocks), ""))

    def _lines(self, roots: int, blocks: int) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests answered, by kind and status.")
        for (kind, status), number in sorted(self._requests.items()):
            yield f'{_PREFIX}_requests_total{{kind="{kind}",status="{status}"}} {number}'
        for name, kind, text, value in (
            ("sent_bytes_total", "counter", "Bytes of bodies sent.", self._sent),
            ("cut_off_total", "counter", "Answers cut off: a block missing or damaged.", self._cut_off),
            ("requests_active", "gauge", "Requests being answered now.", self.active),
            ("roots", "gauge", "Roots that the stores vouch for.", roots),
            ("blocks", "gauge", "Blocks in the stores.", blocks),
        ):
            yield from _head(name, kind, text)
            yield f"{_PREFIX}_{name} {value}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {_PREFIX}_{name} {text}", f"# TYPE {_PREFIX}_{name} {kind}"
