"""A remote source in memory that counts what is read, and lies or fails on demand."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.sources.interface import FileListing, KnownDigests, ListedFile, SourceDefinition, SourceSpan
from reconciler.sources.listing import make_listing
from reconciler.sources.ranges import checked_range
from reconciler.sources.spans import PieceSpan

COMMIT = "c0ffee" * 6 + "beef"


@dataclass
class MemorySource:
    """The `files` of a repository at COMMIT, as a Hugging Face Hub lists them.

    `lfs` are the files that it keeps outside of git. `served` has other bytes for some files than those that
    were listed, `pointers` other ids of pointers. `before_read` is called with the file, the first and the
    last byte of each read. Without `serves_ranges`, each read costs what comes before it.
    """

    files: Mapping[str, bytes]
    lfs: frozenset[str] = frozenset()
    served: dict[str, bytes] = field(default_factory=dict)
    before_read: Callable[[str, int, int], None] | None = None
    piece: int = 300_000
    known: bool = True
    serves_ranges: bool | None = True
    latency: float | None = 0.0
    name: str = "hf:acme/llm@" + COMMIT
    commit: str = COMMIT
    pointers: dict[str, bytes] = field(default_factory=dict)
    bytes_read: int = 0
    listings: int = 0
    reads: list[tuple[str, int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def list(self) -> FileListing:
        self.listings += 1
        files = [ListedFile(path, len(data), self._digests(path, data)) for path, data in self.files.items()]
        return make_listing("hf", self.name, self.commit, files, immutable=self.known)

    def _digests(self, path: str, data: bytes) -> KnownDigests:
        if not self.known:
            return KnownDigests()
        if path in self.lfs:
            sha256 = hashlib.sha256(data).digest()
            pointer = pointer_of(sha256, len(data))
            return KnownDigests(sha256=sha256, lfs_pointer=self.pointers.get(path, git_blob(pointer)))
        return KnownDigests(git_blob=git_blob(data))

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        start, end = checked_range(file, start, length)
        if self.before_read is not None:
            self.before_read(file.path, start, end)
        data = self.served.get(file.path, self.files[file.path])
        with self.lock:
            self.reads.append((file.path, start, end))
            self.bytes_read += start if self.serves_ranges is False else 0
        while start < end:
            piece = data[start : min(end, start + self.piece)]
            with self.lock:
                self.bytes_read += len(piece)
            yield piece
            start += len(piece)

    def request(self, file: ListedFile, start: int, end: int) -> SourceSpan:
        last = file.size if self.serves_ranges is False else end
        return PieceSpan(self.read(file, start, last - start), start, last)

    def close(self) -> None:
        pass

    def open(
        self, definition: SourceDefinition, location: str, *, root: Path, environ: object
    ) -> MemorySource:
        """Stand in for `sources.open.open_source`."""
        return self

    def install(self, patch: pytest.MonkeyPatch) -> MemorySource:
        """Answer for every source from now on."""
        patch.setattr("reconciler.loop.source_definition.open_source", self.open)
        return self


def git_blob(data: bytes) -> bytes:
    """Return the SHA-1 that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).digest()


def pointer_of(sha256: bytes, size: int) -> bytes:
    """Return the Git LFS pointer of a file."""
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
        sha256.hex().encode(),
        size,
    )
