"""The piece CID of a stream of bytes, in any chunking, in constant memory.

The stream is split into stretches, an engine computes a subtree of each, and their roots are folded as they
arrive. The rest up to a power of two is filled with subtrees of zeros, which are precomputed. With an engine
that releases the interpreter lock, all cores hash side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from reconciler.content import workers
from reconciler.content.piece_cid import MIN_SIZE, PieceCid, capacity, height_for
from reconciler.content.piece_tree import (
    STRETCH,
    STRETCH_HEIGHT,
    PieceEngine,
    StdlibEngine,
    hash_nodes,
    zero_node,
)
from reconciler.errors import DataError

_WAITING = 2  # stretches of each thread that may be in progress at once: this bounds the memory

_SAMPLE = bytes(range(256)) * 9


def make_engine() -> PieceEngine:
    """Return the fastest engine that computes correct roots on this machine."""
    plain = StdlibEngine()
    # The second, different input shows that an engine does not repeat its previous result.
    samples = [(sample, plain.root(sample, 7)) for sample in (_SAMPLE, _SAMPLE[1:])]
    for make in (_make_vector_engine, _make_lanes_engine, _make_native_engine):
        try:
            fast = make()
            if all(fast.root(sample, 7) == root for sample, root in samples):
                return fast
        except (ImportError, AttributeError, TypeError, ValueError):  # not installed, or incompatible
            continue
    return plain


def _make_vector_engine() -> PieceEngine:
    from reconciler.content.piece_native import NativeEngine, is_fastest

    if not is_fastest():
        raise ValueError
    return NativeEngine()


def _make_lanes_engine() -> PieceEngine:
    from reconciler.content.piece_lanes import LanesEngine

    return LanesEngine()


def _make_native_engine() -> PieceEngine:
    from reconciler.content.piece_native import NativeEngine

    return NativeEngine()


class PieceHasher:
    """A hasher of one piece after another: any number of `update` calls, then `finish`.

    A context manager, because it may own `threads` (None: as many as cores). `engine` is called once for
    each.
    """

    def __init__(
        self, engine: Callable[[], PieceEngine] = make_engine, *, threads: int | None = None
    ) -> None:
        first = engine()
        threads = (threads or workers.cores()) if first.parallel else 1
        engines = [first, *(engine() for _ in range(threads - 1))]
        self.engine = first.name
        self._idle: SimpleQueue[PieceEngine] = SimpleQueue()
        for each in engines:
            self._idle.put(each)
        self._threads = ThreadPoolExecutor(threads, "piece") if first.parallel else None
        self._waiting = _WAITING * threads
        self._begin()

    def _begin(self) -> None:
        self._size = 0
        self._buffer = bytearray()
        self._running: deque[Future[bytes]] = deque()
        self._folded: dict[int, bytes] = {}  # by height: roots that have no right sibling yet

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes of the piece."""
        view = memoryview(data)
        self._size += len(view)
        while view:
            taken = STRETCH - len(self._buffer)
            self._buffer += view[:taken]
            view = view[taken:]
            # Keep a full stretch until one more byte follows: a piece of exactly one is a tree by itself.
            if len(view) and len(self._buffer) == STRETCH:
                self._flush()

    def finish(self) -> PieceCid:
        """Return the CID of the piece; the next `update` begins another.

        Raises DataError below MIN_SIZE bytes, for which Filecoin defines no piece.
        """
        size = self._size
        try:
            if size < MIN_SIZE:
                raise DataError(f"{size} bytes are too few for a piece: the minimum is {MIN_SIZE}")
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
        """Pass the stretch in the buffer to an engine."""
        stretch, self._buffer = self._buffer, bytearray()
        if self._threads is None:
            self._fold(self._root(stretch, STRETCH_HEIGHT))
            return
        if len(self._running) == self._waiting:
            self._fold(self._running.popleft().result())
        self._running.append(self._threads.submit(self._root, stretch, STRETCH_HEIGHT))

    def _root(self, data: bytearray, height: int) -> bytes:
        engine = self._idle.get()
        try:
            return engine.root(data, height)
        finally:
            self._idle.put(engine)

    def _fold(self, root: bytes) -> None:
        """Add the root of the next full stretch to the tree."""
        height = STRETCH_HEIGHT
        while (left := self._folded.pop(height, None)) is not None:
            root, height = hash_nodes(left, root), height + 1
        self._folded[height] = root

    def _fill_up(self, height: int) -> bytes:
        """Return the root of the tree of `height`: the folded subtrees, followed by zeros."""
        lowest = min(self._folded)
        root = self._folded.pop(lowest)
        for level in range(lowest, height):
            left = self._folded.pop(level, None)
            root = hash_nodes(root, zero_node(level)) if left is None else hash_nodes(left, root)
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
