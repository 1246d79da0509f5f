"""One pass over a remote source: leaves and sums are computed while targets take the leaves.

Several connections read segments of the files, in the order of the CAR; each segment is hashed leaf by leaf
where it arrives, then used in order for the sums of its file, and given to every sink. The segments in memory
are limited in bytes, so a slow sink slows the source down. What a sink still has from an interrupted pass is
not read from the source again: it is verified, and the sums of its file are computed from it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from threading import Event, Semaphore

from reconciler.content.cid import RAW, Cid
from reconciler.content.hashing import FileDigests
from reconciler.content.provisional import LeafSpan, ProvisionalLayout
from reconciler.content.scan import SourceFile
from reconciler.errors import ReconcilerError
from reconciler.loop.stream_cache import LeafJournal
from reconciler.progress import Task
from reconciler.sources.interface import ListedFile, WeightSource
from reconciler.sources.verify import ContentVerifier
from reconciler.targets.interface import IngestedBlock, IngestSession

_CONNECTIONS = 8
_SEGMENT_LEAVES = 4
_IN_FLIGHT = 40 << 20  # bytes of segments that are read, or wait for their turn
_MOST_SEGMENTS = 64  # of them, where files are small
_SINK_THREADS = 2
_SINK_SEGMENTS = 3  # that one sink may lag behind


class StreamSink:
    """A session of the target `name`; the first error ends its part in the pass, and is kept in `error`."""

    def __init__(self, name: str, session: IngestSession) -> None:
        self.name = name
        self.session = session
        self.error: Exception | None = None
        self._pool = ThreadPoolExecutor(_SINK_THREADS, thread_name_prefix=f"ingest-{name}")
        self._free = Semaphore(_SINK_SEGMENTS)

    def put(self, blocks: Sequence[IngestedBlock]) -> None:
        """Pass blocks to the session on another thread; wait while too many are on their way."""
        if self.error is None:
            self._free.acquire()
            self._pool.submit(self._put, blocks)

    def drain(self) -> None:
        """Wait until everything was passed on, or failed."""
        self._pool.shutdown(wait=True)

    def _put(self, blocks: Sequence[IngestedBlock]) -> None:
        try:
            if self.error is None:
                self.session.put(blocks)
        except Exception as error:  # noqa: BLE001 - raised by the pass, or reported
            self.error = error
        finally:
            self._free.release()


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The digests of each file that was read whole, by path, and the bytes from the source and from sinks."""

    digests: Mapping[str, FileDigests]
    read: int
    resumed: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """Some leaves of one file in order; `last` of the file or not."""

    file: SourceFile
    leaves: tuple[LeafSpan, ...]
    last: bool

    @property
    def size(self) -> int:
        return sum(leaf.size for leaf in self.leaves)


class StreamPass:
    """One pass over the files of `source`, which has `listed` files by path, laid out as `expected`.

    `small` are the bytes of small files that were read before. Without `resume`, sinks are not asked for what
    they have. `resumed` counts the bytes that came from them.
    """

    def __init__(
        self,
        source: WeightSource,
        listed: Mapping[str, ListedFile],
        expected: ProvisionalLayout,
        sinks: Sequence[StreamSink],
        journal: LeafJournal,
        small: Mapping[str, bytes],
        *,
        resume: bool = True,
    ) -> None:
        self._source = source
        self._listed = listed
        self._expected = expected
        self._sinks = sinks
        self._journal = journal
        self._small = small
        self._resume = resume
        self._stopped = Event()
        self._in_progress: _StreamedFile | None = None
        self._digests: dict[str, FileDigests] = {}
        self._read = self.resumed = 0

    def run(self, task: Task) -> StreamResult:
        """Read everything once. `task` counts the bytes of all files.

        Raises SourceError and SourceMismatchError of the source, and the error of a sink when none is left.
        """
        waiting: deque[tuple[_Segment, Future[tuple[list[IngestedBlock], int]]]] = deque()
        in_flight = 0
        with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="source") as pool:
            try:
                for segment in self._segments():
                    while waiting and (
                        in_flight + segment.size > _IN_FLIGHT or len(waiting) >= _MOST_SEGMENTS
                    ):
                        in_flight -= self._take(*waiting.popleft(), task)
                    waiting.append((segment, pool.submit(self._fetch, segment)))
                    in_flight += segment.size
                while waiting:
                    self._take(*waiting.popleft(), task)
            finally:
                self._stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                for sink in self._sinks:
                    sink.drain()
        self._require_sink()
        return StreamResult(self._digests, self._read, self.resumed)

    def _segments(self) -> Iterator[_Segment]:
        for file in self._expected.files:
            leaves = list(self._expected.leaves(file))
            for start in range(0, len(leaves), _SEGMENT_LEAVES):
                part = tuple(leaves[start : start + _SEGMENT_LEAVES])
                yield _Segment(file, part, start + _SEGMENT_LEAVES >= len(leaves))

    def _take(self, segment: _Segment, future: Future[tuple[list[IngestedBlock], int]], task: Task) -> int:
        """Use a segment that was read: in order, on one thread. Return its size."""
        blocks, read = future.result()
        current = self._in_progress
        if current is None:
            listed = self._listed[segment.file.path]
            current = self._in_progress = _StreamedFile(self._source.name, listed)
        current.add(blocks)
        for block in blocks:
            self._journal.put(block.position, block.cid)
        if segment.last:
            if self._expected.is_whole(segment.file):
                self._digests[segment.file.path] = current.finish()
            self._in_progress = None
        for sink in self._sinks:
            sink.put(blocks)
        self._require_sink()
        self._read += read
        self.resumed += segment.size - read
        task.advance(segment.size)
        return segment.size

    def _require_sink(self) -> None:
        errors = [sink.error for sink in self._sinks]
        if errors and errors[0] is not None and all(error is not None for error in errors):
            raise errors[0]

    def _fetch(self, segment: _Segment) -> tuple[list[IngestedBlock], int]:
        """Return the blocks of a segment, and how many of their bytes came from the source."""
        found: dict[int, bytes] = {}
        for leaf in segment.leaves:
            data = self._held(leaf)
            if data is not None:
                found[leaf.position] = data
        missing = [leaf for leaf in segment.leaves if leaf.position not in found]
        for _, run in groupby(enumerate(missing), lambda pair: pair[1].number - pair[0]):
            self._read_run(segment.file, [leaf for _, leaf in run], found)
        blocks = [
            IngestedBlock(leaf.position, Cid(RAW, hashlib.sha256(data).digest()), data)
            for leaf in segment.leaves
            for data in (found[leaf.position],)
        ]
        return blocks, sum(leaf.size for leaf in missing)

    def _held(self, leaf: LeafSpan) -> bytes | None:
        known = self._journal.get(leaf.position)
        for sink in self._sinks if self._resume else ():
            if sink.error is not None:
                continue
            try:
                data = sink.session.held(leaf.position, known)
            except (ReconcilerError, OSError):
                continue
            if data is not None and len(data) == leaf.size and (known is None or known.matches(data)):
                return data
        return None

    def _read_run(self, file: SourceFile, leaves: Sequence[LeafSpan], found: dict[int, bytes]) -> None:
        """Read consecutive leaves of a file with one request."""
        first, last = leaves[0], leaves[-1]
        length = last.start + last.size - first.start
        small = self._small.get(file.path)
        if small is not None or not length:
            for leaf in leaves:
                found[leaf.position] = (small or b"")[leaf.start : leaf.start + leaf.size]
            return
        waiting = iter(leaves)
        leaf, buffer = next(waiting), bytearray()
        pieces = self._source.read(self._listed[file.path], first.start, length)
        try:
            for piece in pieces:
                if self._stopped.is_set():
                    raise ReconcilerError("the pass has ended")
                view = memoryview(piece)
                while view:
                    count = min(len(view), leaf.size - len(buffer))
                    if count == leaf.size:
                        data = bytes(view[:count])
                    else:
                        buffer += view[:count]
                        data = bytes(buffer) if len(buffer) == leaf.size else b""
                    view = view[count:]
                    if data:
                        found[leaf.position] = data
                        buffer = bytearray()
                        leaf = next(waiting, leaf)
        finally:
            pieces.close()


class _StreamedFile:
    """The sums of one file, over its blocks in order."""

    def __init__(self, source: str, listed: ListedFile) -> None:
        self._verifier = ContentVerifier(source, listed, given_sha256=True)
        self._sum: hashlib._Hash | None = None
        self._leaves: list[bytes] = []
        self._first: list[IngestedBlock] = []

    def add(self, blocks: Sequence[IngestedBlock]) -> None:
        for block in blocks:
            self._leaves.append(block.cid.digest)
            self._verifier.update(block.data)
        if self._sum is None and (self._first or len(blocks) > 1):
            self._sum = hashlib.sha256()
            blocks = [*self._first, *blocks]
            self._first = []
        if self._sum is None:
            self._first = list(blocks)  # of a file of one leaf, the leaf is the sum
            return
        for block in blocks:
            self._sum.update(block.data)

    def finish(self) -> FileDigests:
        """Return the digests of the file. Raises SourceMismatchError."""
        sha256 = self._leaves[0] if self._sum is None else self._sum.digest()
        self._verifier.finish(sha256)
        return FileDigests(sha256, b"".join(self._leaves))
