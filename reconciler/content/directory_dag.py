"""A bundle on disk as a DAG: inner nodes in memory, leaves read from the source files on request.

This makes the virtual CAR possible: there is never a second copy of the weights. For each leaf, arrays hold
its digest, the number of its file and its number in that file; a model of 80,000 leaves takes a few
megabytes.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.content import profile, source_file
from reconciler.content.bundle import MemoryFile
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.unixfs_tree import DIGEST_SIZE
from reconciler.fs import read_at

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
    """The Dag of a bundle; made by `identify`. Reads are thread-safe and keep no file open."""

    def __init__(
        self,
        identity: BundleIdentity,
        layout: DagLayout,
        tree: Mapping[Cid, bytes],
        listing: SourceListing,
        files: Sequence[PackedFile],
    ) -> None:
        self.identity = identity
        self.layout = layout
        self._tree = tree
        self._listing = listing
        self._sources = [file.source for file in files]
        self._file_of, self._leaf_of = _spans(layout, files)

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
            raise source_file.changed(source, self._leaf_of[position] * profile.CHUNK_SIZE)
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
        data = self._read_span(source, start, size)
        if len(data) != size:
            raise source_file.changed(source, start + len(data))
        return data

    def close(self) -> None:
        """Do nothing: no file stays open between reads."""

    def _read_span(self, source: SourceFile, start: int, size: int) -> bytes:
        # Opening costs 10 µs for each leaf, hashing 700 µs; in return no descriptor is shared.
        descriptor = source_file.open_regular(self._listing, source)
        try:
            return read_at(descriptor, size, start)
        except OSError as error:
            raise source_file.unreadable(source, error) from None
        finally:
            os.close(descriptor)


def _spans(layout: DagLayout, files: Sequence[PackedFile]) -> tuple[array[int], array[int]]:
    """Return for each position the number of the file with that leaf, and of the leaf in the file."""
    file_of = array("L", [_NO_FILE]) * len(layout)
    leaf_of = array("L", [0]) * len(layout)
    for number, file in enumerate(files):
        for leaf in range(len(file.leaves) // DIGEST_SIZE):
            position = layout.find(Cid(RAW, file.leaves[DIGEST_SIZE * leaf : DIGEST_SIZE * (leaf + 1)]))
            if position is None:
                raise AssertionError("a leaf is missing from the layout")
            if file_of[position] == _NO_FILE:
                file_of[position], leaf_of[position] = number, leaf
    return file_of, leaf_of
