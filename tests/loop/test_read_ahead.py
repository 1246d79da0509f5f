"""The requests of a pass over a source."""

from __future__ import annotations

import os
from collections.abc import Generator

from reconciler.content.bundle import make_bundle
from reconciler.content.patterns import FilePatterns
from reconciler.content.provisional import provisional_layout
from reconciler.content.remote_listing import remote_listing
from reconciler.download.limits import DEFAULT_LIMITS, DownloadLimits
from reconciler.loop.stream_cache import LeafJournal
from reconciler.loop.streaming import StreamPass, StreamResult
from reconciler.progress import QUIET
from reconciler.sources.interface import ListedFile
from tests.support.memory_source import MemorySource

MIB = 1 << 20


def stream(source: MemorySource, limits: DownloadLimits = DEFAULT_LIMITS) -> StreamResult:
    """Read all files of `source` once, into no target."""
    listed = {file.path: file for file in source.list().files}
    listing = remote_listing(
        source.name,
        ((file.path, file.size) for file in listed.values()),
        include_hidden=True,
        patterns=FilePatterns(),
        read_span=lambda file, size, offset: source.files[file.path][offset : offset + size],
    )
    bundle = make_bundle(listing, model="m", version="1.0.0")
    expected = provisional_layout(bundle, {})
    reading = StreamPass(
        source, listed, expected, (), LeafJournal(None, len(expected.layout)), {}, limits=limits
    )
    with QUIET.task("streaming", expected.size) as task:
        return reading.run(task)


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
