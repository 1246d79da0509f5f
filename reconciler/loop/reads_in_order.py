"""Reading a source that ignores ranges: parts of a file in their order, from one response.

Each request to such a source begins at the first byte, so parts that are requested one by one would cost the
square of the size. A part that continues where the last one ended comes from the same response; another one
begins a new response, unless it is ahead.
"""

from __future__ import annotations

from collections.abc import Generator
from threading import Lock

from reconciler.sources.interface import ListedFile, WeightSource


class ReadsInOrder:
    """The one open response of `source`. Usable from several threads; only one at a time profits."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self._lock = Lock()
        self._pieces: Generator[bytes, None, None] | None = None
        self._path = ""
        self._at = 0  # the place in the file of what comes next, which begins with `_rest`
        self._rest = b""

    def read(self, file: ListedFile, start: int, length: int) -> Generator[bytes, None, None]:
        """Yield `length` bytes of `file` from `start`; fewer only if the source gives fewer.

        Raises as WeightSource.read.
        """
        if not self._lock.acquire(blocking=False):  # another thread is within it: this read costs more
            yield from self._source.read(file, start, length)
            return
        try:
            yield from self._continue(file, start, length)
        finally:
            self._lock.release()

    def _continue(self, file: ListedFile, start: int, length: int) -> Generator[bytes, None, None]:
        if self._pieces is None or self._path != file.path or self._at > start:
            self._close()
            self._pieces, self._path, self._at = self._source.read(file, start), file.path, start
        try:
            while self._at < start and (piece := self._next()):
                self._keep(piece, min(len(piece), start - self._at))
            while length and (piece := self._next()):
                taken = min(len(piece), length)
                self._keep(piece, taken)
                length -= taken
                yield piece[:taken]
        except GeneratorExit:
            raise  # what was taken is counted, so the next read goes on
        except BaseException:
            self._close()
            raise
        if self._at == file.size:
            self._close()

    def close(self) -> None:
        """End the open response."""
        with self._lock:
            self._close()

    def _next(self) -> bytes:
        """Return the next bytes; none at the end."""
        assert self._pieces is not None  # noqa: S101 - set by `read`
        piece, self._rest = self._rest or next(self._pieces, b""), b""
        return piece

    def _keep(self, piece: bytes, used: int) -> None:
        self._rest = piece[used:]
        self._at += used

    def _close(self) -> None:
        pieces, self._pieces, self._rest = self._pieces, None, b""
        if pieces is not None:
            pieces.close()
