"""A bundle as a DAG: inner nodes in memory, leaves read from the source files on request.

This makes the virtual CAR possible: there is never a second copy of the weights. For each leaf, arrays hold
its digest, the number of its file and its number in that file; a model of 80,000 leaves takes a few
megabytes.

Digests that come from a cache may be those of older bytes. The DAG remembers which leaves were hashed since,
and `confirm` hashes the others. Leaves with equal bytes share a block, which is read from the first of them:
sending it says nothing about the others.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.content import profile, source_file, workers
from reconciler.content.bundle import MemoryFile
from reconciler.content.cid import RAW, Cid
from reconciler.content.contents import BundleContents, FileEntry, make_contents
from reconciler.content.dag import DagLayout, DiskFile
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.unixfs_tree import DIGEST_SIZE
from reconciler.errors import BundleError
from reconciler.fs import read_at
from reconciler.progress import QUIET, Progress, Task

_NO_FILE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """One file of a bundle: path, size in bytes, hex sha256 (None in a bare bundle), and CID."""

    path: str
    size: int
    sha256: str | None
    cid: Cid


@dataclass(frozen=True, slots=True)
class BundleIdentity:
    """The results of identifying a bundle.

    `size` is the bytes of all files, `blocks` the number of unique blocks and `block_bytes` their total,
    `car_size` the bytes of the CARv1. `dirhash` is the hex sha256 of SHA256SUMS, None in a bare bundle.
    `files` includes the generated ones, sorted by the UTF-8 bytes of their paths.
    """

    root: Cid
    size: int
    blocks: int
    block_bytes: int
    car_size: int
    dirhash: str | None
    files: tuple[FileIdentity, ...]


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file of the DAG: the source of its bytes, and the 32-byte digests of its leaves, in order."""

    source: SourceFile | MemoryFile
    leaves: bytes


class DirectoryDag:
    """The Dag of a bundle; made by `identify`. Reads are thread-safe and keep no file open.

    `cached` are the paths of the files whose digests come from a cache. `changed` is set once a read failed,
    or found other bytes than were identified.
    """

    def __init__(
        self,
        identity: BundleIdentity,
        layout: DagLayout,
        tree: Mapping[Cid, bytes],
        listing: SourceListing,
        files: Sequence[PackedFile],
        cached: frozenset[str] = frozenset(),
    ) -> None:
        self.identity = identity
        self.layout = layout
        self.cached = cached
        self.changed = False
        self._tree = tree
        self.listing = listing
        self._files = files
        self._sources = [file.source for file in files]
        self._file_of, self._leaf_of = _spans(layout, files)
        self._verified = bytearray(len(layout))  # 1 for each block that was hashed since it was identified
        self._unconfirmed = {
            number: file.leaves
            for number, file in enumerate(files)
            if isinstance(file.source, SourceFile) and file.source.path in cached
        }

    def read(self, position: int) -> bytes:
        """Return the verified bytes of the block at `position`.

        Raises SourceChangedError with the file and the offset when the file no longer contains these bytes,
        and BundleError when it cannot be read.
        """
        data = self.read_unverified(position)
        cid = self.layout.cid(position)
        if cid.codec == RAW and hashlib.sha256(data).digest() != cid.digest:
            source = self._sources[self._file_of[position]]
            if isinstance(source, MemoryFile):
                raise AssertionError(f"{source.path!r} in memory differs from what was identified")
            self.changed = self.listing.read_span is None
            raise source_file.changed(source, self._leaf_of[position] * profile.CHUNK_SIZE)
        self._verified[position] = 1
        return data

    def read_unverified(self, position: int) -> bytes:
        """See `content.dag.ReadsUnverified`."""
        cid = self.layout.cid(position)
        if cid.codec != RAW:
            return self._tree[cid]
        source = self._sources[self._file_of[position]]
        start = self._leaf_of[position] * profile.CHUNK_SIZE
        size = self.layout.block_size(position)
        if isinstance(source, MemoryFile):
            return source.data[start : start + size]
        try:
            data = self._read_span(source, start, size)
        except BundleError:
            self.changed = True
            raise
        if len(data) != size:
            self.changed = True
            raise source_file.changed(source, start + len(data))
        return data

    def mark_verified(self, positions: Iterable[int]) -> None:
        """See `content.dag.ReadsUnverified`."""
        for position in positions:
            self._verified[position] = 1

    def confirm(self, progress: Progress = QUIET) -> None:
        """Hash every leaf whose digest comes from a cache, unless it was read since; then nothing is cached.

        Raises SourceChangedError when a file has other bytes now, BundleError when one cannot be read.
        """
        waiting = {number: list(self._unverified(number)) for number in self._unconfirmed}
        total = sum(self._leaf_size(number, leaf) for number, leaves in waiting.items() for leaf in leaves)
        try:
            for number in waiting:
                self._check_size(number)
            if total:
                with progress.task("confirming", total) as task:
                    self._confirm_leaves(
                        [(number, leaf) for number, leaves in waiting.items() for leaf in leaves], task
                    )
        except BundleError:
            self.changed = True
            raise
        self._unconfirmed = {}

    def disk_files(self) -> Iterator[DiskFile]:
        """See `content.dag.HasDiskFiles`."""
        if self.listing.read_span is not None:
            return
        for file, identity in zip(self._files, self.identity.files, strict=True):
            if isinstance(file.source, MemoryFile):
                continue
            digests = (_digest(file.leaves, leaf) for leaf in range(len(file.leaves) // DIGEST_SIZE))
            found = (self.layout.find(Cid(RAW, digest)) for digest in digests)
            leaves = tuple(position for position in found if position is not None)
            yield DiskFile(self.listing.locate(file.source).resolve(), identity.cid, identity.size, leaves)

    @property
    def contents(self) -> BundleContents:
        """The files of the bundle and its empty directories."""
        return contents_of(self.identity, self.listing.directories)

    def close(self) -> None:
        """Do nothing: no file stays open between reads."""

    def _unverified(self, number: int) -> Iterator[int]:
        """Yield the leaves of a file that were not hashed since: not sent, or sent from another place."""
        digests = self._unconfirmed[number]
        for leaf in range(len(digests) // DIGEST_SIZE):
            position = self.layout.find(Cid(RAW, _digest(digests, leaf)))
            assert position is not None  # noqa: S101 - `_spans` found it
            was_read = (self._file_of[position], self._leaf_of[position]) == (number, leaf)
            if not (was_read and self._verified[position]):
                yield leaf

    def _confirm_leaves(self, waiting: Iterable[tuple[int, int]], task: Task) -> None:
        def confirm(place: tuple[int, int]) -> None:
            number, leaf = place
            source, start = self._source_file(number), leaf * profile.CHUNK_SIZE
            data = self._read_span(source, start, self._leaf_size(number, leaf))
            if hashlib.sha256(data).digest() != _digest(self._unconfirmed[number], leaf):
                raise source_file.changed(source, start)
            task.advance(len(data))

        remote = self.listing.read_span is not None
        threads = workers.cores() if remote else workers.threads_for(self.listing.root)
        workers.share(confirm, waiting, threads=threads)

    def _check_size(self, number: int) -> None:
        """Raise SourceChangedError when the file has another size than when it was scanned."""
        if self.listing.read_span is None:
            source_file.check_size(self.listing, self._source_file(number))

    def _source_file(self, number: int) -> SourceFile:
        source = self._sources[number]
        if isinstance(source, MemoryFile):
            raise AssertionError(f"{source.path!r} is in memory, not in a cache")
        return source

    def _leaf_size(self, number: int, leaf: int) -> int:
        return min(profile.CHUNK_SIZE, self._source_file(number).stamp.size - leaf * profile.CHUNK_SIZE)

    def _read_span(self, source: SourceFile, start: int, size: int) -> bytes:
        if self.listing.read_span is not None:
            return self.listing.read_span(source, size, start)
        # Opening costs 10 µs for each leaf, hashing 700 µs; in return no descriptor is shared.
        descriptor = source_file.open_regular(self.listing, source)
        try:
            return read_at(descriptor, size, start)
        except OSError as error:
            raise source_file.unreadable(source, error) from None
        finally:
            os.close(descriptor)


def _digest(digests: bytes, leaf: int) -> bytes:
    return digests[DIGEST_SIZE * leaf : DIGEST_SIZE * (leaf + 1)]


def contents_of(identity: BundleIdentity, directories: Iterable[str]) -> BundleContents:
    """Return the contents of an identified bundle with these directories."""
    return make_contents((FileEntry(file.path, file.size, file.cid) for file in identity.files), directories)


def _spans(layout: DagLayout, files: Sequence[PackedFile]) -> tuple[array[int], array[int]]:
    """Return for each position the number of the file with that leaf, and of the leaf in the file."""
    file_of = array("L", [_NO_FILE]) * len(layout)
    leaf_of = array("L", [0]) * len(layout)
    for number, file in enumerate(files):
        for leaf in range(len(file.leaves) // DIGEST_SIZE):
            position = layout.find(Cid(RAW, _digest(file.leaves, leaf)))
            if position is None:
                raise AssertionError("a leaf is missing from the layout")
            if file_of[position] == _NO_FILE:
                file_of[position], leaf_of[position] = number, leaf
    return file_of, leaf_of
