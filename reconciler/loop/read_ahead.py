"""Reading a remote source ahead of the pass over it, with the downloader that `fetch` uses.

A file is divided into segments of a few leaves. Connections read runs of consecutive segments, each hashed
leaf by leaf where it arrives; the pass uses them in order. Segments are read only while they are within a
window behind the first one whose memory was not given back, so there is always memory for them. Each request
is made once; the downloader decides whether and when its bytes are requested again.

Whether the source serves ranges is known after the first response. It is kept, and used when its bytes have
their turn: if it has the whole file, it is the only one, and the file is read from it over one connection.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
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
from reconciler.download.pace import FAR
from reconciler.download.scheduler import Scheduler
from reconciler.download.source_state import Setback
from reconciler.download.work import RunForm, UnitRun
from reconciler.errors import ReconcilerError
from reconciler.loop.segment_memory import SegmentMemory
from reconciler.loop.span_stream import KeptStream, SpanStream
from reconciler.sources.interface import ListedFile, SourceUnavailableError, WeightSource
from reconciler.sources.spans import LARGE_FILE
from reconciler.targets.interface import IngestedBlock

SEGMENT_LEAVES = 2
_WINDOW = 48 << 20  # bytes of segments that are read, wait for their turn, or are on their way to sinks
_SPARE = 16 << 20  # bytes more, for segments that two connections read at once
MOST_FAILURES = (
    6  # in a row, after which a source is given up, which takes it some seconds: it is the only one
)


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
    not be read.
    """

    def __init__(
        self,
        source: WeightSource,
        listed: Mapping[str, ListedFile],
        expected: ProvisionalLayout,
        small: Mapping[str, bytes],
        held: Callable[[LeafSpan], bytes | None],
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
        self._limits = limits
        self._reason: Exception | None = None
        self._download: Download | None = None
        self._kept = KeptStream()
        self._begun: dict[int, tuple[memoryview, int]] = {}  # segments whose first bytes were read
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
        self._find_out()
        latency = FAR if self._source.latency is None else self._source.latency
        self._download = Download(
            Scheduler(
                self._runs,
                self.count,
                [self.width],
                self._limits,
                window=_WINDOW,
                latencies=[latency],
                most_failures=MOST_FAILURES,
            ),
            [self],
            hopeless=self._hopeless,
            max_rate=self._limits.max_rate,
        )
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
            begun = self._begun.pop(number, None)
        if begun is not None:  # another connection read it meanwhile
            self._memory.give_back(begun[0])
        if self._download is not None:
            self._download.advance(needed)

    def _was_given_back(self, unit: int) -> bool:
        return unit < self._needed or unit in self._returned

    def stop(self) -> None:
        """End all reads."""
        if self._download is not None:
            self._download.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._kept.close()

    def _find_out(self) -> None:
        """Make the first request for a part of a large file where nothing is known about ranges yet.

        A failure is left to the request that the downloader makes for the same bytes.
        """
        if self._source.serves_ranges is not None:
            return
        for run, file in zip(self._runs, self._expected.files, strict=True):
            if file.path not in self._small and self._listed[file.path].size > LARGE_FILE and run.units:
                first = self._segment(file, 0)
                with suppress(ReconcilerError):
                    self._kept.put(self._request(first.file, first.start, first.start + first.size))
                return

    def _run(self) -> None:
        assert self._download is not None  # noqa: S101  made before the thread
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
        return 1 if self._in_order else CONNECTIONS_LIMIT

    @property
    def _in_order(self) -> bool:
        return self._source.serves_ranges is False

    def failed(self, setback: Setback, error: Exception, *, given_up: bool) -> None:
        """See Fetcher.failed."""
        del setback, given_up
        self._reason = error

    def _hopeless(self, unit: int) -> Exception:
        assert self._reason is not None, unit  # noqa: S101  only a failure gives the source up
        return self._reason

    def fetch(self, handle: Handle) -> None:
        """See Fetcher.fetch."""
        reading = _Reading(handle)
        try:
            for unit in handle.units():
                segment = self._find(unit)
                with self._changed:
                    begun = self._begun.pop(unit, None)
                memory, reading.filled = begun or (self._memory.take(segment.size), 0)
                kept = False
                try:
                    found = self._fill(segment, memory, reading)
                    kept = handle.deliver(unit, segment.size, partial(self._keep, unit, found))
                except SourceUnavailableError:
                    with self._changed:
                        if reading.filled and not self._was_given_back(unit):
                            kept = self._begun.setdefault(unit, (memory, reading.filled))[0] is memory
                    raise
                finally:
                    if not kept:
                        self._memory.give_back(memory)
        except SourceUnavailableError as error:
            setback = Setback.OVERLOADED if error.overloaded else Setback.BROKEN
            raise SetbackError(setback, error, pause=error.retry_after) from error
        finally:
            self._kept.put(reading.stream, unless=not self._in_order)

    def _keep(self, unit: int, found: ReadSegment) -> None:
        with self._changed:
            self._arrived[unit] = found
            self._changed.notify_all()

    def _fill(self, segment: Segment, memory: memoryview, reading: _Reading) -> ReadSegment:
        """Read a segment into `memory`, of which the first bytes may be there from a request that broke."""
        missing = []
        for leaf in segment.leaves:
            data = self._held(leaf) if not reading.filled else None
            if data is None:
                missing.append(leaf)
            else:
                segment.place(leaf, memory)[:] = data
        small = self._small.get(segment.file.path)
        if small is not None:
            memory[:] = small[segment.start : segment.start + segment.size]
        elif len(missing) == len(segment.leaves):
            self._read(segment.file, segment.start, memory, self._last(segment, reading.handle), reading)
        else:
            for _, run in groupby(enumerate(missing), lambda pair: pair[1].number - pair[0]):
                leaves = [leaf for _, leaf in run]
                start, end = leaves[0].start, leaves[-1].start + leaves[-1].size
                part = memory[start - segment.start : end - segment.start]
                try:
                    self._read(segment.file, start, part, end, reading)
                finally:
                    reading.filled = 0  # a segment with leaves of other places is read again as a whole
        blocks = [
            IngestedBlock(leaf.position, Cid(RAW, hashlib.sha256(data).digest()), data)
            for leaf in segment.leaves
            for data in (segment.place(leaf, memory),)
        ]
        return ReadSegment(segment, blocks, memory, sum(leaf.size for leaf in missing))

    def _last(self, segment: Segment, handle: Handle) -> int:
        """Return the end of the bytes that a request from `segment` should ask for."""
        last = segment
        if handle.form is RunForm.RANGE:
            last = self._segment(segment.file, handle.span[1] - 1)
        return last.start + last.size

    def _read(self, file: SourceFile, start: int, memory: memoryview, end: int, reading: _Reading) -> None:
        """Read bytes of a file from `start` until `memory` is full, from requests up to `end`."""
        while reading.filled < len(memory):
            at = start + reading.filled
            if reading.stream is None or not reading.stream.has(file.path, at, skipping=self._in_order):
                self._kept.put(reading.stream, unless=not self._in_order)
                reading.stream = None  # also where the next line raises
                reading.stream = self._kept.take(file.path, at, skipping=self._in_order) or self._request(
                    file, at, end
                )
            reading.stream.skip_to(at)
            if count := reading.stream.read_into(memory[reading.filled :]):
                reading.filled += count
                reading.handle.received(count)

    # --- requests

    def _request(self, file: SourceFile, start: int, end: int) -> SpanStream:
        listed = self._listed[file.path]
        return SpanStream(self._source, listed, start, listed.size if self._in_order else end)


@dataclass(slots=True)
class _Reading:
    """What one connection does: the response that it reads, and the bytes that its segment has already."""

    handle: Handle
    stream: SpanStream | None = None
    filled: int = 0
