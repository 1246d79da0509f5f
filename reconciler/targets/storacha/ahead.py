"""CARs that are sent ahead of the upload, several at a time: the client itself sends one after the other.

Each is given to a client of its own, which stores it as a blob of the space. The upload follows: it is fed a
CAR only when that is stored, so it sends none of them again, and nothing is listed before its last step. The
clients hash every CAR, and the service compares; which CARs there must be, the upload decides as without this
(`output.check_upload`). For this, the source is read twice, so it is done for local files alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from reconciler.content import car
from reconciler.content.car import Sharding, ShardSpan, shard_spans
from reconciler.content.dag import Dag, HasDiskFiles

AT_ONCE = 3  #: CARs; each client has one in memory several times
_TICK = 0.25  # seconds between two calls of `waiting`

#: stores the bytes of one CAR, and calls the function twice a second: what it raises ends the client
StoreCar = Callable[[Iterable[bytes], Callable[[], None]], object]


class _StoppedError(Exception):
    """The upload has ended."""


class CarsAhead:
    """The CARs of `dag`, stored with `store` from the moment of entering the context, in order.

    There are none with `store` None, for a version of one CAR, and for one that is not on this machine. At
    the end of the context, the clients that still run are killed.
    """

    def __init__(self, dag: Dag, sharding: Sharding, store: StoreCar | None) -> None:
        self._dag = dag
        self._store = store
        spans = shard_spans(dag.layout, sharding)
        is_local = isinstance(dag, HasDiskFiles) and next(dag.disk_files(), None) is not None
        wanted = store is not None and len(spans) > 1 and is_local
        self._spans: Sequence[ShardSpan] = spans if wanted else ()
        self._stored: list[Future[object]] = []
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="car-ahead")
        self._stopped = False

    def __enter__(self) -> Self:
        self._stored = [self._pool.submit(self._send, span) for span in self._spans]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def follow(self, chunks: Iterable[bytes], waiting: Callable[[], None]) -> Iterator[bytes]:
        """Yield `chunks` of the whole CAR, those that end a CAR only when it is stored.

        Calls `waiting` several times a second while it waits. Raises the error of a client that failed.
        """
        layout = self._dag.layout
        ends = [layout.section_start(span.first) for span in self._spans[1:]]
        sent = stored = 0
        for chunk in chunks:
            while stored < len(ends) and sent >= ends[stored]:
                self._await(stored, waiting)
                stored += 1
            yield chunk
            sent += len(chunk)
        if self._stored:
            self._await(len(self._stored) - 1, waiting)

    def _await(self, number: int, waiting: Callable[[], None]) -> None:
        """Wait until CAR `number`, and all before it, are stored. Raises the error of any that failed."""
        needed = self._stored[: number + 1]
        while True:
            for each in self._stored:
                if each.done():
                    each.result()
            if all(each.done() for each in needed):
                return
            wait([each for each in self._stored if not each.done()], _TICK, FIRST_EXCEPTION)
            waiting()

    def _send(self, span: ShardSpan) -> None:
        self._check()
        assert self._store is not None  # noqa: S101 - otherwise there are no spans
        self._store(self._checked(car.stream_shard(self._dag, span)), self._check)

    def _checked(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._check()
            yield chunk

    def _check(self) -> None:
        if self._stopped:
            raise _StoppedError
