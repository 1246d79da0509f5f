"""One pass over a remote source: leaves and sums are computed while targets take the leaves.

The segments that `read_ahead` reads are used in order for the sums of their file, and given to every sink.
Their memory is limited, so a slow sink slows the source down. What a sink still has from an interrupted pass
is not read from the source again: it is verified, and the sums of its file are computed from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

from reconciler.content import profile
from reconciler.content.hashing import FileDigests
from reconciler.content.provisional import LeafSpan, ProvisionalLayout
from reconciler.download.limits import DEFAULT_LIMITS, DownloadLimits
from reconciler.errors import ReconcilerError
from reconciler.loop.read_ahead import ReadAhead, ReadSegment
from reconciler.loop.stream_cache import LeafJournal
from reconciler.progress import Task
from reconciler.sources.interface import ListedFile, WeightSource
from reconciler.sources.verify import ContentVerifier
from reconciler.targets.interface import IngestedBlock, IngestSession, LeafSession


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


class StreamPass:
    """One pass over the files of `source`, which has `listed` files by path, laid out as `expected`.

    `small` are the bytes of small files that were read before. Without `resume`, sinks are not asked for what
    they have. `resumed` counts the bytes that came from them. `limits` are those of the connections.
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
        limits: DownloadLimits = DEFAULT_LIMITS,
    ) -> None:
        self._source = source
        self._listed = listed
        self._expected = expected
        self._sinks = sinks
        self._journal = journal
        self._resume = resume
        self._ahead = ReadAhead(source, listed, expected, small, self._held, limits=limits)
        self._in_progress: _StreamedFile | None = None
        self._digests: dict[str, FileDigests] = {}
        self._read = self.resumed = 0

    def run(self, task: Task) -> StreamResult:
        """Read everything once. `task` counts the bytes of all files.

        Raises SourceError and SourceMismatchError of the source, and the error of a sink when none is left.
        """
        try:
            for number, found in self._ahead:
                self._take(number, found, task)
        finally:
            self._ahead.stop()
            for sink in self._sinks:
                sink.drain()
        self._require_sink()
        return StreamResult(self._digests, self._read, self.resumed)

    def _take(self, number: int, found: ReadSegment, task: Task) -> None:
        """Use a segment that was read: in order, on one thread."""
        segment = found.segment
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
        release = _AfterAll(len(self._sinks) + 1, lambda: self._ahead.give_back(number, found))
        for sink in self._sinks:
            sink.put(found.blocks, release)
        release()
        self._require_sink()
        task.advance(segment.size)

    def _require_sink(self) -> None:
        errors = [sink.error for sink in self._sinks]
        if errors and errors[0] is not None and all(error is not None for error in errors):
            raise errors[0]

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
