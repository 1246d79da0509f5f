"""A Dag that reads the next blocks while the last one is still being sent or written.

Reading a leaf means hashing it; two threads do that beside the caller, who gets the same blocks and the same
errors in the same order. For readers that go forward, such as `car.stream`; any other order works and gains
nothing.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from reconciler.content.dag import Dag, DagLayout

THREADS = 2
AHEAD = 8  #: blocks held at most, besides the caller's own


class ReadAhead:
    """`dag`, read by one caller through threads of our own. Use it as a context manager; `dag` stays open."""

    def __init__(self, dag: Dag) -> None:
        self._dag = dag
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read-ahead")
        self._started: dict[int, Future[bytes]] = {}

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._dag.layout

    def read(self, position: int) -> bytes:
        """As the Dag itself reads; begins to read the positions that follow."""
        wanted = range(position, min(position + 1 + AHEAD, len(self.layout)))
        for stale in self._started.keys() - set(wanted):
            self._started.pop(stale).cancel()
        for following in wanted:
            if following not in self._started:
                self._started[following] = self._threads.submit(self._dag.read, following)
        return self._started.pop(position).result()

    def close(self) -> None:
        """Stop reading; what is being read right now is waited for. May be called twice."""
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
