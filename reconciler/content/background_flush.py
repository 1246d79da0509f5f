"""Flushing a file to the disk while it is being written, so that little is left to be flushed at the end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

INTERVAL = 64 << 20  #: bytes written between two flushes


class BackgroundFlush:
    """Flushes a file with `flush` on a thread of its own. Usable from several threads.

    The system reports an error of the disk to one flush only, so it is kept, and raised by every later call.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._lock = Lock()
        self._unflushed = 0
        self._flushing: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="flush")

    def wrote(self, size: int) -> None:
        """Count bytes that were written; begin a flush when it is time. Raises OSError of an earlier one."""
        with self._lock:
            self._unflushed += size
            if self._flushing is not None:
                if not self._flushing.done():
                    return
                self._flushing.result()  # before another flush takes its place
            if self._unflushed >= INTERVAL:
                self._unflushed = 0
                self._flushing = self._pool.submit(self._flush)

    def finish(self) -> None:
        """Wait for the flush in progress; what was written after it is not flushed. Raises OSError."""
        self._pool.shutdown(wait=True)
        if self._flushing is not None:
            self._flushing.result()
