"""The requirements on every source, as a library; README.md explains how to apply it to a new kind.

A test of a kind subclasses `SourceSuite` and provides a `subject` fixture: a place with FILES.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import ClassVar, Protocol

import pytest

from reconciler.content.bundle import make_bundle
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.errors import ReconcilerError, SourceChangedError, Where
from reconciler.index.label import Label
from reconciler.index.model import SourceSpec, Version
from reconciler.index.version_source import SourceReference
from reconciler.loop.remote import RemoteVersions
from reconciler.loop.stream_cache import StreamCache
from reconciler.progress import QUIET
from reconciler.sources.interface import (
    ListedFile,
    SourceError,
    SourceMismatchError,
    SourceMissingError,
    SourceSpan,
    SourceUnavailableError,
    WeightSource,
)
from reconciler.sources.verify import ContentVerifier
from tests.support.plant import plant

FILES = {
    "model.safetensors": random.Random(1).randbytes((2 << 20) + 5),
    "config.json": b'{"hidden_size": 8}\n',
    "empty.bin": b"",
    ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    "a b/c+d/%20.txt": b"a name that has to be quoted\n",
    "a b/é.txt": b"a name beyond ASCII\n",
    "a.b/x": b"sorted by bytes\n",
}
OTHER = random.Random(2).randbytes(70_000)


class Subject(Protocol):
    """A place with FILES, with actions that bypass the code under test."""

    def open(self) -> WeightSource:
        """Open the place at its present revision."""

    def open_missing(self) -> WeightSource:
        """Open a place that does not exist."""

    def put(self, path: str, data: bytes) -> None:
        """Write a file, and make a new revision of it where there are revisions."""

    def make_unreachable(self) -> None:
        """Stop the peer."""


def requested(span: SourceSpan, piece: int) -> bytes:
    """Return all bytes of a request, taken `piece` bytes at a time."""
    found, memory = bytearray(), memoryview(bytearray(piece))
    while count := span.read_into(memory):
        found += memory[:count]
    return bytes(found)


class SourceSuite:
    """The suite. Subclass it as `Test…` with a `subject` fixture."""

    #: files that the kind adds to what was put, such as a list of sums
    added: ClassVar[frozenset[str]] = frozenset()
    #: whether the revision commits to the bytes
    immutable: ClassVar[bool] = True
    #: whether the source states digests of its files
    states_digests: ClassVar[bool] = True
    #: whether there is a peer that can be unreachable
    remote: ClassVar[bool] = True
    #: the secret that the source was given
    secret: ClassVar[str] = ""

    @pytest.fixture
    def source(self, subject: Subject):
        with closing(subject.open()) as source:
            yield source

    def file(self, source: WeightSource, path: str) -> ListedFile:
        return next(file for file in source.list().files if file.path == path)

    def read(self, source: WeightSource, file: ListedFile, *place: int) -> bytes:
        return b"".join(source.read(file, *place))

    def test_lists_every_file_with_its_size_in_the_order_of_bytes(self, source):
        listing = source.list()
        sizes = {file.path: file.size for file in listing.files if file.path not in self.added}
        assert sizes == {path: len(data) for path, data in FILES.items()}
        assert list(listing.files) == sorted(listing.files, key=lambda file: file.path.encode())
        assert listing.source == source.name
        assert source.list() is listing

    def test_the_revision_is_the_same_as_long_as_nothing_changes(self, subject):
        with closing(subject.open()) as first, closing(subject.open()) as second:
            assert first.list().revision == second.list().revision != ""
            assert first.list().immutable is self.immutable

    @pytest.mark.parametrize("path", ["model.safetensors", "config.json", "new/file.txt"])
    def test_a_change_makes_another_revision(self, subject, path):
        with closing(subject.open()) as before:
            revision = before.list().revision
        subject.put(path, OTHER)
        with closing(subject.open()) as after:
            assert after.list().revision != revision
            assert self.read(after, self.file(after, path)) == OTHER

    @pytest.mark.parametrize("path", FILES)
    def test_a_whole_file_is_read_and_matches_what_the_source_states(self, source, path):
        file = self.file(source, path)
        verifier = ContentVerifier(source.name, file)
        pieces = list(source.read(file))
        for piece in pieces:
            assert piece
            verifier.update(piece)
        verifier.finish()
        assert b"".join(pieces) == FILES[path]
        assert verifier.proves is self.states_digests

    def test_a_version_of_its_files_has_the_cid_of_the_same_files_in_a_directory(
        self, source, tmp_path, monkeypatch
    ):
        files = FILES | {path: self.read(source, self.file(source, path)) for path in self.added}
        listing = scan(plant(tmp_path / "directory", files), include_hidden=True)
        wanted = identify(make_bundle(listing, model="m", version="1.0.0"), cache=None)
        monkeypatch.setattr("reconciler.loop.source_definition.open_source", lambda *_, **__: source)
        specs = {"there": SourceSpec("there", "directory", {}, Where("sources.yaml"))}
        version = Version(
            "m",
            "1.0.0",
            Where("index.yaml"),
            source=SourceReference("there", "place"),
            license="MIT",
            include_hidden=True,
        )
        remote = RemoteVersions(
            specs, tmp_path, {}, StreamCache(None), QUIET, repository=tmp_path, index_id="acme"
        )
        found, _ = remote.stream(version, version.inputs, (), Label.of("acme", version.ref))
        assert found.dag.identity == wanted.identity

    @pytest.mark.parametrize(
        ("start", "length"),
        [(0, 0), (0, 1), (1, None), ((1 << 20) - 1, 2), (17, 2_000_000), ((2 << 20) + 5, 0)],
    )
    def test_a_range_has_exactly_its_bytes(self, source, start, length):
        data = FILES["model.safetensors"]
        end = len(data) if length is None else start + length
        assert self.read(source, self.file(source, "model.safetensors"), start, length) == data[start:end]

    @pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 2_000_000), (1 << 20, (1 << 20) + 7), (0, None)])
    def test_one_request_has_exactly_its_bytes(self, source, start, end):
        file, data = self.file(source, "model.safetensors"), FILES["model.safetensors"]
        span = source.request(file, start, len(data) if end is None else end)
        assert requested(span, 100_000) == data[start : span.end]
        assert end is None or span.end >= end
        span.close()
        span.close()

    def test_a_range_of_a_small_file_has_exactly_its_bytes(self, source):
        assert self.read(source, self.file(source, "config.json"), 2, 11) == b"hidden_size"

    @pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 20), (20, None), (3, -1)])
    def test_a_range_outside_of_the_file_is_refused(self, source, start, length):
        with pytest.raises(ValueError, match=r"'config\.json'"):
            self.read(source, self.file(source, "config.json"), start, length)

    def test_threads_read_at_the_same_time(self, source):
        file = self.file(source, "model.safetensors")
        step = file.size // 8 + 1

        def part(at: int) -> bytes:
            return self.read(source, file, at, min(step, file.size - at))

        with ThreadPoolExecutor(4) as pool:
            assert b"".join(pool.map(part, range(0, file.size, step))) == FILES["model.safetensors"]

    def test_a_reader_may_stop_early(self, source):
        file = self.file(source, "model.safetensors")
        with closing(source.read(file)) as pieces:
            first = next(pieces)
        assert FILES["model.safetensors"].startswith(first)
        assert self.read(source, file, 5, 5) == FILES["model.safetensors"][5:10]

    def test_other_bytes_than_the_source_states_are_found(self, source):
        file = self.file(source, "config.json")
        verifier = ContentVerifier(source.name, file)
        verifier.update(FILES["config.json"].replace(b"8", b"9"))
        if self.states_digests:
            with pytest.raises(SourceMismatchError, match=r"'config.json' does not have its"):
                verifier.finish()
        else:
            verifier.finish()

    @pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
    def test_a_file_that_is_longer_than_listed_or_shorter_is_never_read_to_its_end(self, source, path):
        file = self.file(source, path)
        with pytest.raises((SourceError, SourceChangedError, SourceMismatchError)):
            self.read(source, replace(file, size=file.size + 1))

    def test_a_file_that_is_not_there_is_missing(self, source):
        with pytest.raises(SourceMissingError, match=r"'absent\.bin'"):
            self.read(source, ListedFile("absent.bin", 5, self.file(source, "config.json").digests))

    def test_a_place_that_is_not_there_is_missing(self, subject):
        with closing(subject.open_missing()) as source, pytest.raises(SourceMissingError) as caught:
            source.list()
        assert str(caught.value).startswith(f"{source.name}: ")

    def test_an_unreachable_peer_is_unavailable(self, subject):
        if not self.remote:
            return
        with closing(subject.open()) as source:
            file = self.file(source, "model.safetensors")
            subject.make_unreachable()
            with pytest.raises(SourceUnavailableError) as caught:
                self.read(source, file)
            assert not self.secret or self.secret not in f"{caught.value}{caught.value.hint}"

    def test_closing_ends_a_read_of_another_thread_with_an_error_of_ours(self, subject):
        source = subject.open()
        pieces = source.read(self.file(source, "model.safetensors"))
        read = next(pieces)
        source.close()
        try:
            read += b"".join(pieces)
        except ReconcilerError:
            assert FILES["model.safetensors"].startswith(read)
        else:
            assert read == FILES["model.safetensors"]

    def test_a_closed_source_can_be_closed_again(self, subject):
        source = subject.open()
        source.list()
        source.close()
        source.close()

    def test_no_secret_is_in_the_text_of_a_source(self, source):
        assert not self.secret or self.secret not in f"{source!r} {source.name} {source.list()!r}"
