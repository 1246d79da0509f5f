"""One pass over a remote source: leaves and sums are computed while targets take the leaves.

Several connections read segments of the files, in the order of the CAR; each segment is hashed leaf by leaf
where it arrives, then used in order for the sums of its file, and given to every sink. The segments in memory
are limited in bytes, so a slow sink slows the source down. What a sink still has from an interrupted pass is
not read from the source again: it is verified, and the sums of its file are computed from it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from threading import Event, Lock

from reconciler.content import profile
from reconciler.content.cid import RAW, Cid
from reconciler.content.hashing import FileDigests
from reconciler.content.provisional import LeafSpan, ProvisionalLayout
from reconciler.content.scan import SourceFile
from reconciler.errors import ReconcilerError
from reconciler.loop.segment_memory import SegmentMemory
from reconciler.loop.stream_cache import LeafJournal
from reconciler.progress import Task
from reconciler.sources.interface import ListedFile, SourceProtocolError, WeightSource
from reconciler.sources.verify import ContentVerifier
from reconciler.targets.interface import IngestedBlock, IngestSession, LeafSession

_CONNECTIONS = 8
_SEGMENT_LEAVES = 4
_MEMORY = 64 << 20  # bytes of segments that are read, wait for their turn, or are on their way to sinks
_MOST_SEGMENTS = 64  # that are read or wait, where files are small


class StreamSink:
    """The session of `name`; the first error ends its part in the pass, and is kept in `error`."""

    def __init__(self, name: str, session: LeafSession) -> None:
        self.name = name
        self.session = session
        self.error: Exception | None = None
        self._pool = ThreadPoolExecutor(session.streams, thread_name_prefix=f"ingest-{name}")

    def put(self, blocks: Sequence[IngestedBlock], done: Callable[[], None]) -> None:
        """Pass blocks to the session on another thread, and call `done` when it no longer needs them."""
        self._pool.submit(self._put, blocks, done)

    def drain(self) -> None:
        """Wait until everything was passed on, or failed."""
        self._pool.shutdown(wait=True)

    def _put(self, blocks: Sequence[IngestedBlock], done: Callable[[], None]) -> None:
        try:
            if self.error is None:
                self.session.put(blocks)
        except Exception as error:  # noqa: BLE001 - raised by the pass, or reported
            self.error = error
        finally:
            done()


class TargetSink(StreamSink):
    """The session of a target, which its holder finishes or abandons."""

    session: IngestSession

    def __init__(self, name: str, session: IngestSession) -> None:
        super().__init__(name, session)


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
    def start(self) -> int:
        return self.leaves[0].start

    @property
    def size(self) -> int:
        return self.leaves[-1].start + self.leaves[-1].size - self.start


@dataclass(frozen=True, slots=True)
class _ReadSegment:
    """The blocks of a segment, whose bytes are in `memory`, and how many of them came from the source."""

    blocks: list[IngestedBlock]
    read: int


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
        self._memory = SegmentMemory(_SEGMENT_LEAVES * profile.CHUNK_SIZE, _MEMORY)
        self._stopped = Event()
        self._in_progress: _StreamedFile | None = None
        self._digests: dict[str, FileDigests] = {}
        self._read = self.resumed = 0

    def run(self, task: Task) -> StreamResult:
        """Read everything once. `task` counts the bytes of all files.

        Raises SourceError and SourceMismatchError of the source, and the error of a sink when none is left.
        """
        waiting: deque[tuple[_Segment, memoryview, Future[_ReadSegment]]] = deque()
        with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="source") as pool:
            try:
                for segment in self._segments():
                    while waiting and (
                        len(waiting) >= _MOST_SEGMENTS or not self._memory.has_room(segment.size)
                    ):
                        self._take(*waiting.popleft(), task)
                    memory = self._memory.take(segment.size)  # waits for sinks only
                    waiting.append((segment, memory, pool.submit(self._fetch, segment, memory)))
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

    def _take(self, segment: _Segment, memory: memoryview, future: Future[_ReadSegment], task: Task) -> None:
        """Use a segment that was read: in order, on one thread."""
        found = future.result()
        current = self._in_progress
        if current is None:
            listed = self._listed[segment.file.path]
            current = self._in_progress = _StreamedFile(self._source.name, listed)
        self._read += found.read
        self.resumed += segment.size - found.read
        current.add(found.blocks)
        if segment.last:
            if self._expected.is_whole(segment.file):
                self._digests[segment.file.path] = current.finish()
            self._in_progress = None
        self._journal.put([(block.position, block.cid) for block in found.blocks])
        release = _AfterAll(len(self._sinks) + 1, lambda: self._memory.give_back(memory))
        for sink in self._sinks:
            sink.put(found.blocks, release)
        release()
        self._require_sink()
        task.advance(segment.size)

    def _require_sink(self) -> None:
        errors = [sink.error for sink in self._sinks]
        if errors and errors[0] is not None and all(error is not None for error in errors):
            raise errors[0]

    def _fetch(self, segment: _Segment, memory: memoryview) -> _ReadSegment:
        """Read a segment into `memory`, and return its blocks."""
        missing = []
        for leaf in segment.leaves:
            data = self._held(leaf)
            if data is None:
                missing.append(leaf)
            else:
                _place(segment, leaf, memory)[:] = data
        for _, run in groupby(enumerate(missing), lambda pair: pair[1].number - pair[0]):
            leaves = [leaf for _, leaf in run]
            first, last = leaves[0].start - segment.start, leaves[-1].start - segment.start
            self._read_span(segment.file, leaves[0].start, memory[first : last + leaves[-1].size])
        blocks = [
            IngestedBlock(leaf.position, Cid(RAW, hashlib.sha256(data).digest()), data)
            for leaf in segment.leaves
            for data in (_place(segment, leaf, memory),)
        ]
        return _ReadSegment(blocks, sum(leaf.size for leaf in missing))

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

    def _read_span(self, file: SourceFile, start: int, memory: memoryview) -> None:
        """Read bytes of a file from `start` with one request, until `memory` is full.

        Raises SourceProtocolError for fewer bytes: what was in `memory` before must never be taken for them.
        """
        small = self._small.get(file.path)
        if small is not None or not memory:
            memory[:] = (small or b"")[start : start + len(memory)]
            return
        filled = 0
        pieces = self._source.read(self._listed[file.path], start, len(memory))
        try:
            for piece in pieces:
                if self._stopped.is_set():
                    raise ReconcilerError("the pass has ended")
                memory[filled : filled + len(piece)] = piece
                filled += len(piece)
        finally:
            pieces.close()
        if filled != len(memory):
            raise SourceProtocolError(
                self._source.name,
                f"came with {filled} bytes from byte {start} instead of {len(memory)}",
                file=file.path,
            )


def _place(segment: _Segment, leaf: LeafSpan, memory: memoryview) -> memoryview:
    """Return the part of the memory of a segment where one leaf is."""
    start = leaf.start - segment.start
    return memory[start : start + leaf.size]


class _AfterAll:
    """Calls `action` when it was called `count` times itself. Usable from several threads."""

    def __init__(self, count: int, action: Callable[[], None]) -> None:
        self._left = count
        self._action = action
        self._lock = Lock()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._action()


class _StreamedFile:
    """The sums of one file, over its blocks in order."""

    def __init__(self, source: str, listed: ListedFile) -> None:
        self._verifier = ContentVerifier(source, listed, given_sha256=True)
        # Of a file of one leaf, the digest of the leaf is the sum.
        self._sum = hashlib.sha256() if listed.size > profile.CHUNK_SIZE else None
        self._leaves: list[bytes] = []

    def add(self, blocks: Sequence[IngestedBlock]) -> None:
        for block in blocks:
            self._leaves.append(block.cid.digest)
            self._verifier.update(block.data)
            if self._sum is not None:
                self._sum.update(block.data)

    def finish(self) -> FileDigests:
        """Return the digests of the file. Raises SourceMismatchError."""
        sha256 = self._leaves[0] if self._sum is None else self._sum.digest()
        self._verifier.finish(sha256)
        return FileDigests(sha256, b"".join(self._leaves))
