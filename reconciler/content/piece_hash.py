"""The piece CID of a stream of bytes, in any chunking, with memory that does not grow with it.

The stream is cut into stretches, an engine makes a subtree of each, and the roots of these are folded as they
come; what lacks to a power of two is filled with subtrees of zeros, which are known beforehand. Where the
engine lets other threads run, two of them hash side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from reconciler.content.piece_cid import MIN_SIZE, PieceCid, capacity, height_for
from reconciler.content.piece_engines import (
    STRETCH,
    STRETCH_HEIGHT,
    PieceEngine,
    make_engine,
    node,
    zero_node,
)
from reconciler.errors import DataError

_THREADS = 2
_WAITING = 4  # stretches that may be on their way at once: what bounds the memory


class PieceHasher:
    """Takes the bytes of one piece after another: `update` as often as need be, then `finish`.

    A context manager, because it may hold threads. `engine` makes one engine a thread.
    """

    def __init__(self, engine: Callable[[], PieceEngine] = make_engine) -> None:
        first = engine()
        engines = [first, *(engine() for _ in range(_THREADS - 1))] if first.parallel else [first]
        self.engine = first.name
        self._idle: SimpleQueue[PieceEngine] = SimpleQueue()
        for each in engines:
            self._idle.put(each)
        self._threads = ThreadPoolExecutor(_THREADS, "piece") if first.parallel else None
        self._begin()

    def _begin(self) -> None:
        self._size = 0
        self._buffer = bytearray()
        self._running: deque[Future[bytes]] = deque()
        self._folded: dict[int, bytes] = {}  # by height: the root of a whole subtree that waits for its right

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes of the piece."""
        view = memoryview(data)
        self._size += len(view)
        while view:
            taken = STRETCH - len(self._buffer)
            self._buffer += view[:taken]
            view = view[taken:]
            # A full stretch waits for one more byte: a piece of exactly one is a tree by itself.
            if len(view) and len(self._buffer) == STRETCH:
                self._flush()

    def finish(self) -> PieceCid:
        """The CID of the piece; the next `update` begins another.

        Raises DataError below MIN_SIZE bytes, for which Filecoin has no piece.
        """
        size = self._size
        try:
            if size < MIN_SIZE:
                raise DataError(f"{size} bytes are no piece: the least is {MIN_SIZE}")
            height = height_for(size)
            if height <= STRETCH_HEIGHT:
                root = self._root(self._buffer, height)
            else:
                self._flush()
                while self._running:
                    self._fold(self._running.popleft().result())
                root = self._fill_up(height)
            return PieceCid(root, height, capacity(height) - size)
        finally:
            for waiting in self._running:
                waiting.cancel()
            self._begin()

    def _flush(self) -> None:
        """Hand the stretch in the buffer to an engine."""
        stretch, self._buffer = self._buffer, bytearray()
        if self._threads is None:
            self._fold(self._root(stretch, STRETCH_HEIGHT))
            return
        if len(self._running) == _WAITING:
            self._fold(self._running.popleft().result())
        self._running.append(self._threads.submit(self._root, stretch, STRETCH_HEIGHT))

    def _root(self, data: bytearray, height: int) -> bytes:
        engine = self._idle.get()
        try:
            return engine.root(data, height)
        finally:
            self._idle.put(engine)

    def _fold(self, root: bytes) -> None:
        """Add the next whole stretch to the tree."""
        height = STRETCH_HEIGHT
        while (left := self._folded.pop(height, None)) is not None:
            root, height = node(left, root), height + 1
        self._folded[height] = root

    def _fill_up(self, height: int) -> bytes:
        """The root of the tree of `height`, zeros behind what was folded."""
        lowest = min(self._folded)
        root = self._folded.pop(lowest)
        for level in range(lowest, height):
            left = self._folded.pop(level, None)
            root = node(root, zero_node(level)) if left is None else node(left, root)
        return root

    def close(self) -> None:
        """End the threads. May be called twice."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def piece_of(chunks: Iterable[bytes], engine: Callable[[], PieceEngine] = make_engine) -> PieceCid:
    """The piece CID of the bytes in `chunks`. Raises DataError when they are too few."""
    with PieceHasher(engine) as hasher:
        for chunk in chunks:
            hasher.update(chunk)
        return hasher.finish()
