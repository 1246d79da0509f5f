"""The requests of a pass over a source: what they cost, and what happens to those that fail."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from reconciler.content.bundle import make_bundle
from reconciler.content.patterns import FilePatterns
from reconciler.content.provisional import ProvisionalLayout, provisional_layout
from reconciler.content.remote_listing import remote_listing
from reconciler.download import source_state
from reconciler.download.engine import SetbackError
from reconciler.download.limits import DEFAULT_LIMITS, DownloadLimits
from reconciler.download.work import RunForm
from reconciler.loop import read_ahead
from reconciler.loop.read_ahead import ReadAhead, ReadSegment
from reconciler.loop.stream_cache import LeafJournal
from reconciler.loop.streaming import StreamPass, StreamResult
from reconciler.progress import QUIET
from reconciler.sources.http_list import open_source
from reconciler.sources.interface import (
    ListedFile,
    SourceDefinition,
    SourceKind,
    SourceSpan,
    SourceUnavailableError,
    WeightSource,
)
from tests.support.file_server import FileServer, file_server
from tests.support.memory_source import MemorySource

MIB = 1 << 20


def expect(source: WeightSource) -> tuple[dict[str, ListedFile], ProvisionalLayout]:
    listed = {file.path: file for file in source.list().files}
    listing = remote_listing(
        source.name,
        ((file.path, file.size) for file in listed.values()),
        include_hidden=True,
        patterns=FilePatterns(),
        read_span=lambda file, size, offset: b"".join(source.read(listed[file.path], offset, size)),
    )
    bundle = make_bundle(listing, model="m", version="1.0.0")
    return listed, provisional_layout(bundle, {})


def stream(source: WeightSource, limits: DownloadLimits = DEFAULT_LIMITS) -> StreamResult:
    """Read all files of `source` once, into no target."""
    listed, expected = expect(source)
    reading = StreamPass(
        source, listed, expected, (), LeafJournal(None, len(expected.layout)), {}, limits=limits
    )
    with QUIET.task("streaming", expected.size) as task:
        return reading.run(task)


def sums(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: sha256(data).digest() for path, data in files.items()}


def found_sums(result: StreamResult) -> dict[str, bytes | None]:
    return {path: digests.sha256 for path, digests in result.digests.items()}


class CountingSource(MemorySource):
    """It counts the reads whose end was asked for, which lets a connection be used again."""

    ended = 0

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        yield from super().read(file, start, length)
        self.ended += 1


def test_every_response_is_read_to_its_end() -> None:
    source = CountingSource({"a": os.urandom(9 * MIB), "b": os.urandom(5)})
    assert stream(source, DownloadLimits(connections=1)).read == 9 * MIB + 5
    assert source.ended == len(source.reads)


# --- a server that ignores ranges


@pytest.fixture
def served(tmp_path: Path) -> Generator[tuple[FileServer, dict[str, bytes]], None, None]:
    """A server with a list of sums, and its files."""
    files = {"a.json": b"{}", "b.bin": os.urandom(7 * MIB + 3), "c.bin": os.urandom(5 * MIB), "d.txt": b"d"}
    for path, data in files.items():
        (tmp_path / path).write_bytes(data)
    lines = "".join(f"{digest.hex()}  {path}\n" for path, digest in sums(files).items())
    (tmp_path / "SHA256SUMS").write_text(lines)
    files["SHA256SUMS"] = lines.encode()
    with file_server(tmp_path) as server:
        yield server, files


@pytest.mark.parametrize("ranges", [True, False])
def test_a_pass_costs_the_size_whether_ranges_are_served_or_not(
    ranges: bool, served: tuple[FileServer, dict[str, bytes]], tmp_path: Path
) -> None:
    server, files = served
    server.ranges = ranges
    source = open_source(
        SourceDefinition("files", SourceKind.HTTP, server.url), "", root=tmp_path, environ={}
    )
    source.list()
    before = server.sent
    result = stream(source)
    source.close()
    assert found_sums(result) == sums(files)
    assert result.read == sum(map(len, files.values()))
    assert server.sent - before == result.read + len(files["SHA256SUMS"]), "which the bundle needs as well"
    assert source.serves_ranges is ranges


# --- requests that fail


class FailingSource(MemorySource):
    """Each request for a place at which `failures` has an error raises it, as often as it is there."""

    failures: dict[int, list[SourceUnavailableError]]
    cut_after: int = 0  # bytes of each request after which it breaks, 0: never

    def request(self, file: ListedFile, start: int, end: int) -> SourceSpan:
        if left := self.failures.get(start):
            raise left.pop()
        if not self.cut_after:
            return super().request(file, start, end)
        return _CutSpan(super().request(file, start, end), self.cut_after)


class _CutSpan:
    def __init__(self, span: SourceSpan, left: int) -> None:
        self._span, self._left = span, left
        self.end = span.end

    def read_into(self, memory: memoryview) -> int:
        if not self._left:
            raise SourceUnavailableError("hf", "broke off")
        count = self._span.read_into(memory[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        self._span.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_RECOVERY", "_PAUSE"):
        monkeypatch.setattr(source_state, name, 0.001)


def failing(size: int, **failures: SourceUnavailableError) -> FailingSource:
    source = FailingSource({"w.bin": os.urandom(size)}, piece=MIB)
    source.failures = {int(place[1:]): [error] for place, error in failures.items()}
    return source


def overload(pause: float | None) -> SourceUnavailableError:
    error = SourceUnavailableError("hf", "requests a pause (HTTP 429)")
    error.overloaded, error.retry_after = True, pause
    return error


@pytest.mark.parametrize("error", [overload(None), overload(0.01), SourceUnavailableError("hf", "reset")])
def test_a_request_that_fails_is_made_again_by_the_downloader(error: SourceUnavailableError) -> None:
    source = failing(9 * MIB, _0=error, **{f"_{4 * MIB}": error})
    assert found_sums(stream(source)) == sums(dict(source.files))
    assert source.bytes_read == 9 * MIB


@pytest.mark.parametrize("cut", [MIB // 2 + 1, 3 * MIB - 1])
def test_a_response_that_breaks_off_goes_on_at_the_same_byte(cut: int) -> None:
    source = failing(9 * MIB)
    source.cut_after, source.piece = cut, 100_000
    assert found_sums(stream(source, DownloadLimits(connections=1))) == sums(dict(source.files))
    most = Counter(start for _, start, _ in source.reads).most_common(1)[0][1]
    assert most == 1, "no byte is requested twice as the first one"


def test_an_answer_with_the_whole_file_that_breaks_off_is_not_read_again() -> None:
    """Each request of a server that ignores ranges begins anew; the answer that broke has nothing left."""
    source = failing(9 * MIB)
    source.serves_ranges, source.cut_after, source.piece = False, 4 * MIB, 100_000
    assert found_sums(stream(source)) == sums(dict(source.files))
    assert len(source.reads) == 3


def test_a_source_that_always_fails_is_given_up_with_its_error() -> None:
    source = failing(9 * MIB)
    source.failures = {0: [SourceUnavailableError("hf", f"failure {number}") for number in range(99)]}
    with pytest.raises(SourceUnavailableError, match=r"hf: failure \d+"):
        stream(source, DownloadLimits(connections=1))
    assert 99 - len(source.failures[0]) == read_ahead.MOST_FAILURES


class _Late:
    """A request for unit 0 that breaks when another connection has read it, and the pass is done with it."""

    form = RunForm.RANGE
    span = (0, 1)

    def __init__(self, ahead: ReadAhead) -> None:
        self._ahead = ahead

    def units(self) -> Iterator[int]:
        yield 0

    def received(self, size: int) -> None:
        segment = self._ahead._find(0)
        other = self._ahead._memory.take(segment.size)
        self._ahead.give_back(0, ReadSegment(segment, [], other, segment.size))


def test_what_arrived_of_a_segment_that_is_no_longer_needed_keeps_no_memory() -> None:
    source = failing(9 * MIB)
    source.cut_after = MIB
    ahead = ReadAhead(source, *expect(source), {}, lambda _: None, DEFAULT_LIMITS)
    with pytest.raises(SetbackError):
        ahead.fetch(_Late(ahead))  # type: ignore[arg-type]
    assert ahead._memory._used == 0


@pytest.mark.slow
def test_the_server_of_python_ignores_ranges_and_costs_the_size(
    served: tuple[FileServer, dict[str, bytes]], tmp_path: Path
) -> None:
    """What it sent is seen in its log: one response with the body of each large file."""
    _, files = served
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        url = f"http://127.0.0.1:{port}"
        source = open_source(SourceDefinition("files", SourceKind.HTTP, url), "", root=tmp_path, environ={})
        assert found_sums(stream(source)) == sums(files)
        source.close()
        server.terminate()
        _, log = server.communicate(timeout=60)
    for path in ("b.bin", "c.bin"):
        assert log.count(f'"GET /{path} HTTP/1.1" 200') == 1
    assert source.serves_ranges is False
