"""Work on a few threads, its results in order, never more than a window of it in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def overlapped(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, window: int
) -> Iterator[_Result]:
    """`work(item)` for every item, in order, on `threads` threads with at most `window` items under way.

    `items` is drawn from in the caller's thread, so that its own work (reading, hashing) overlaps as well.
    The first exception, of `items` or of `work`, ends it; what was begun is finished before it is raised.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="store") as pool:
        under_way: deque[Future[_Result]] = deque()
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= window:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
