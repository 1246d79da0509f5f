"""Reading a remote source ahead of the pass over it, with the downloader that `fetch` uses.

A file is divided into segments of a few leaves. Connections read runs of consecutive segments, each hashed
leaf by leaf where it arrives; the pass uses them in order. Segments are read only while they are within a
window behind the first one whose memory was not given back, so there is always memory for them.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby
from threading import Condition, Thread

from reconciler.content import profile
from reconciler.content.cid import RAW, Cid
from reconciler.content.provisional import LeafSpan, ProvisionalLayout
from reconciler.content.scan import SourceFile
from reconciler.download.engine import Download, Handle, SetbackError
from reconciler.download.limits import CONNECTIONS_LIMIT, DownloadLimits
from reconciler.download.scheduler import Scheduler
from reconciler.download.source_state import Setback
from reconciler.download.work import RunForm, UnitRun
from reconciler.loop.segment_memory import SegmentMemory
from reconciler.sources.interface import (
    ListedFile,
    SourceProtocolError,
    SourceUnavailableError,
    WeightSource,
)
from reconciler.targets.interface import IngestedBlock

SEGMENT_LEAVES = 2
_WINDOW = 48 << 20  # bytes of segments that are read, wait for their turn, or are on their way to sinks
_SPARE = 16 << 20  # bytes more, for segments that two connections read at once


@dataclass(frozen=True, slots=True)
class Segment:
    """Some consecutive leaves of one file; `last` of the file or not."""

    file: SourceFile
    leaves: tuple[LeafSpan, ...]
    last: bool

    @property
    def start(self) -> int:
        """The offset in the file."""
        return self.leaves[0].start

    @property
    def size(self) -> int:
        """Bytes of all leaves."""
        return self.leaves[-1].start + self.leaves[-1].size - self.start

    def place(self, leaf: LeafSpan, memory: memoryview) -> memoryview:
        """Return the part of the memory of this segment where one leaf is."""
        start = leaf.start - self.start
        return memory[start : start + leaf.size]


@dataclass(frozen=True, slots=True)
class ReadSegment:
    """The blocks of a segment, whose bytes are in `memory`, and how many of them came from the source."""

    segment: Segment
    blocks: list[IngestedBlock]
    memory: memoryview
    read: int


class ReadAhead:
    """The segments of `expected`, read from `source`, which has `listed` files by path.

    `small` are the bytes of small files that were read before; `held` returns the bytes of a leaf that need
    not be read. `latency` is the time to the first byte in seconds, as far as it is known.
    """

    def __init__(
        self,
        source: WeightSource,
        listed: Mapping[str, ListedFile],
        expected: ProvisionalLayout,
        small: Mapping[str, bytes],
        held: Callable[[LeafSpan], bytes | None],
        *,
        latency: float,
        limits: DownloadLimits,
    ) -> None:
        self._source = source
        self._listed = listed
        self._expected = expected
        self._small = small
        self._held = held
        self._memory = SegmentMemory(SEGMENT_LEAVES * profile.CHUNK_SIZE, _WINDOW + _SPARE)
        self._runs = self._make_runs()
        self._firsts = [run.units[0] for run in self._runs]
        self.count = self._firsts[-1] + len(self._runs[-1].units) if self._runs else 0
        scheduler = Scheduler(
            self._runs,
            self.count,
            [self.width],
            limits,
            window=_WINDOW,
            latencies=[latency],
            most_failures=1,  # a source has repeated its requests itself
        )
        self._reason: Exception | None = None
        self._download = Download(scheduler, [self], hopeless=self._hopeless, max_rate=limits.max_rate)
        self._changed = Condition()
        self._arrived: dict[int, ReadSegment] = {}
        self._failure: BaseException | None = None
        self._returned: set[int] = set()  # segments whose memory came back before that of an earlier one
        self._needed = self._needed_bytes = 0
        self._thread = Thread(target=self._run, daemon=True, name="read-ahead")

    # --- the pass

    def __iter__(self) -> Iterator[tuple[int, ReadSegment]]:
        """Iterate over the number and the content of every segment, in order.

        The caller gives each back. Raises SourceError, SourceMismatchError and SourceChangedError.
        """
        if not self.count:
            return
        self._thread.start()
        for number in range(self.count):
            with self._changed:
                while number not in self._arrived:
                    if self._failure is not None:
                        raise self._failure
                    self._changed.wait()
                found = self._arrived.pop(number)
            yield number, found

    def give_back(self, number: int, found: ReadSegment) -> None:
        """Give back the memory of a segment, when nothing reads it any more."""
        self._memory.give_back(found.memory)
        with self._changed:
            self._returned.add(number)
            while self._needed in self._returned:
                self._returned.discard(self._needed)
                self._needed_bytes += self._footprint(self._needed)
                self._needed += 1
            needed = self._needed_bytes
        self._download.advance(needed)

    def stop(self) -> None:
        """End all reads."""
        self._download.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._download.run()
        except BaseException as error:  # noqa: BLE001  raised in the thread of the pass
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    # --- segments

    def _make_runs(self) -> list[UnitRun]:
        """Return one run for each file, whose units are segments and whose bytes are those of the memory."""
        runs, unit = [], 0
        for file in self._expected.files:
            count = -(-len(self._expected.numbers(file)) // SEGMENT_LEAVES)
            sizes = (self._memory.footprint(self._segment(file, at).size) for at in range(count))
            offsets = array("Q", accumulate(sizes, initial=0))
            runs.append(UnitRun(range(unit, unit + count), offsets, RunForm.RANGE))
            unit += count
        return runs

    def _segment(self, file: SourceFile, at: int) -> Segment:
        numbers = self._expected.numbers(file)
        part = numbers[at * SEGMENT_LEAVES : (at + 1) * SEGMENT_LEAVES]
        leaves = tuple(self._expected.leaf(file, number) for number in part)
        return Segment(file, leaves, part[-1] == numbers[-1])

    def _find(self, unit: int) -> Segment:
        run = bisect_right(self._firsts, unit) - 1
        return self._segment(self._expected.files[run], unit - self._firsts[run])

    def _footprint(self, unit: int) -> int:
        run = bisect_right(self._firsts, unit) - 1
        at = unit - self._firsts[run]
        return self._runs[run].size(at, at + 1)

    # --- the threads of the connections

    @property
    def width(self) -> int:
        """See Fetcher.width. Where ranges are ignored, each request costs the file up to its end."""
        return CONNECTIONS_LIMIT if self._source.serves_ranges else 1

    def failed(self, setback: Setback, error: Exception, *, given_up: bool) -> None:
        """See Fetcher.failed."""
        del setback, given_up
        self._reason = error

    def _hopeless(self, unit: int) -> Exception:
        assert self._reason is not None, unit  # noqa: S101  only a failure gives the source up
        return self._reason

    def fetch(self, handle: Handle) -> None:
        """See Fetcher.fetch."""
        stream: _SpanStream | None = None
        try:
            for unit in handle.units():
                segment = self._find(unit)
                if stream is not None and not stream.continues(segment):
                    stream.close()
                    stream = None
                memory = self._memory.take(segment.size)
                kept = False
                try:
                    found, stream = self._fill(segment, memory, handle, stream)
                    kept = handle.deliver(unit, segment.size, partial(self._keep, unit, found))
                finally:
                    if not kept:
                        self._memory.give_back(memory)
        except SourceUnavailableError as error:
            if error.retry_after:
                raise SetbackError(Setback.OVERLOADED, error, pause=error.retry_after) from error
            raise SetbackError(Setback.BROKEN, error) from error
        finally:
            if stream is not None:
                stream.close()

    def _keep(self, unit: int, found: ReadSegment) -> None:
        with self._changed:
            self._arrived[unit] = found
            self._changed.notify_all()

    def _fill(
        self, segment: Segment, memory: memoryview, handle: Handle, stream: _SpanStream | None
    ) -> tuple[ReadSegment, _SpanStream | None]:
        """Read a segment into `memory`; return it with the stream that its bytes came from."""
        missing = []
        for leaf in segment.leaves:
            data = self._held(leaf)
            if data is None:
                missing.append(leaf)
            else:
                segment.place(leaf, memory)[:] = data
        small = self._small.get(segment.file.path)
        if small is not None:
            memory[:] = small[segment.start : segment.start + segment.size]
        elif len(missing) == len(segment.leaves) and segment.size:
            stream = stream or self._open(segment, handle)
            stream.read_into(memory)
        else:
            for _, run in groupby(enumerate(missing), lambda pair: pair[1].number - pair[0]):
                leaves = [leaf for _, leaf in run]
                first, last = leaves[0].start - segment.start, leaves[-1].start - segment.start
                part = memory[first : last + leaves[-1].size]
                single = _SpanStream(self._source, self._listed[segment.file.path], handle)
                try:
                    single.open(leaves[0].start, len(part))
                    single.read_into(part)
                finally:
                    single.close()
        blocks = [
            IngestedBlock(leaf.position, Cid(RAW, hashlib.sha256(data).digest()), data)
            for leaf in segment.leaves
            for data in (segment.place(leaf, memory),)
        ]
        return ReadSegment(segment, blocks, memory, sum(leaf.size for leaf in missing)), stream

    def _open(self, segment: Segment, handle: Handle) -> _SpanStream:
        """Request the bytes from a segment to the end of what the handle is for."""
        last = segment
        if handle.form is RunForm.RANGE:
            last = self._segment(segment.file, handle.span[1] - 1)
        stream = _SpanStream(self._source, self._listed[segment.file.path], handle)
        stream.open(segment.start, last.start + last.size - segment.start)
        return stream


class _SpanStream:
    """One request for bytes of a file, which are taken in parts."""

    def __init__(self, source: WeightSource, file: ListedFile, handle: Handle) -> None:
        self._source = source
        self._file = file
        self._handle = handle
        self._at = 0
        self._end = 0
        self._rest = memoryview(b"")
        self._pieces: Generator[bytes, None, None] | None = None

    def open(self, start: int, length: int) -> None:
        """Begin at `start`."""
        self._at, self._end = start, start + length
        self._pieces = self._source.read(self._file, start, length)

    def continues(self, segment: Segment) -> bool:
        """Return whether the next bytes are those of `segment`."""
        same = (self._file.path, self._at) == (segment.file.path, segment.start)
        return same and self._at + segment.size <= self._end

    def read_into(self, memory: memoryview) -> None:
        """Fill `memory`. Raises SourceProtocolError for fewer bytes: what was in it before must never be
        taken for them.
        """
        filled = 0
        assert self._pieces is not None  # noqa: S101  it was opened
        while filled < len(memory):
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._handle.received(len(piece))
                self._rest = memoryview(piece)
            part = self._rest[: len(memory) - filled]
            memory[filled : filled + len(part)] = part
            self._rest = self._rest[len(part) :]
            filled += len(part)
        if filled != len(memory):
            raise SourceProtocolError(
                self._source.name,
                f"came with {filled} bytes from byte {self._at} instead of {len(memory)}",
                file=self._file.path,
            )
        self._at += filled

    def close(self) -> None:
        """End the request."""
        if self._pieces is not None:
            if self._at == self._end:  # a response that is read to its end leaves its connection reusable
                next(self._pieces, None)
            self._pieces.close()
