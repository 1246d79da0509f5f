"""Blocks of the store for reading: all blocks of one CAR, or any block of the store by its CID.

Every block is hashed before it is returned. The table of all blocks comes from the block indexes beside the
CARs and takes 32 bytes a block; it needs no proof, since a block is whatever hashes to its CID. It is read
again when the store changes.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler import fs
from reconciler.content.bounds import MAX_BLOCK
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.targets.store import labels as entries
from reconciler.targets.store.directory import StoreDirectory
from reconciler.targets.store.layouts import layout_of_car, load_index, read_block


class CarFileDag:
    """The Dag of one CAR file; it owns `fd`. Reading a damaged block raises BlockUnavailableError."""

    def __init__(self, fd: int, layout: DagLayout) -> None:
        self._fd: int | None = fd
        self._layout = layout

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._layout

    def read(self, position: int) -> bytes:
        """Read and verify the block at `position`. Raises BlockUnavailableError."""
        if self._fd is None:
            raise ValueError("read from a closed DAG")
        layout = self._layout
        return read_block(
            self._fd, layout.data_start(position), layout.cid(position), layout.block_size(position)
        )

    def close(self) -> None:
        """Close the file. May be called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


_REFRESH_SECONDS = 1.0  # between two checks whether the store has changed
_TRUSTED_SECONDS = 300.0  # how long a block that was hashed counts as verified while its file is unchanged
_RACY_SECONDS = 2.0  # age up to which a file may change again without a new time stamp


@dataclass(frozen=True, slots=True)
class StoredRoot:
    """One labelled root: bytes of its CAR, and the number of its blocks."""

    root: Cid
    car_size: int
    blocks: int


class _CarFile:
    """One CAR on disk, with its last `stat` result and the time since which that is unchanged."""

    def __init__(self, stored: StoredRoot, path: Path) -> None:
        self.stored = stored
        self.path = path
        self._seen: tuple[int, ...] = ()
        self._since = 0.0

    def unchanged_since(self, fd: int) -> float:
        """Return the monotonic time since which the `stat` result of the open file has not changed."""
        status = os.fstat(fd)
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if seen != self._seen:
            self._since = time.monotonic()
            self._seen = seen
        if abs(time.time_ns() - status.st_mtime_ns) < _RACY_SECONDS * 1e9:
            # Time stamps are coarse: a second change may look like the first one.
            self._since = time.monotonic() + _RACY_SECONDS
        return self._since


@dataclass(slots=True)
class _BlockTable:
    """Blocks sorted by the first eight bytes of their digests; a block may be in several CARs."""

    cars: list[_CarFile] = field(default_factory=list)
    keys: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    owners: array[int] = field(default_factory=lambda: array("I"))
    verified: array[float] = field(default_factory=lambda: array("d"))  # monotonic time; 0: never

    def add(self, car: _CarFile, layout: DagLayout) -> None:
        owner = len(self.cars)
        self.cars.append(car)
        for position, block in enumerate(layout):
            self.keys.append(_key(block.cid))
            self.offsets.append(layout.data_start(position))
            self.sizes.append(block.size)
            self.owners.append(owner)

    def sort(self) -> None:
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        self.keys = array("Q", map(self.keys.__getitem__, order))
        self.offsets = array("Q", map(self.offsets.__getitem__, order))
        self.sizes = array("I", map(self.sizes.__getitem__, order))
        self.owners = array("I", map(self.owners.__getitem__, order))
        self.verified = array("d", bytes(8 * len(order)))

    def find(self, cid: Cid) -> Iterator[int]:
        key = _key(cid)
        slot = bisect_left(self.keys, key)
        while slot < len(self.keys) and self.keys[slot] == key:
            yield slot
            slot += 1


def _key(cid: Cid) -> int:
    return int.from_bytes(cid.digest[:8], "big")


class StoredBlocks:
    """The blocks of the store at `directory`. Usable from several threads; keeps no file open.

    Only blocks of labelled roots whose removal has not begun are served.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = StoreDirectory(directory)
        self._lock = threading.Lock()
        self._refreshed = 0.0
        self._version: tuple[int, int] | None = None
        self._table = _BlockTable()
        self.roots: Mapping[Cid, StoredRoot] = {}

    def refresh(self) -> None:
        """Read the table again if the store has changed; checked at most once a second, by one thread.

        Raises PeerError when the directory is not a store, or cannot be read.
        """
        if time.monotonic() - self._refreshed < _REFRESH_SECONDS or not self._lock.acquire(blocking=False):
            return
        try:
            version = self._read_version()
            if version != self._version:
                self._load()
                self._version = version
            self._refreshed = time.monotonic()
        finally:
            self._lock.release()

    def read(self, cid: Cid) -> bytes | None:
        """Read and verify a block; None when the store does not have it.

        Bytes from the disk are hashed. Bytes from the page cache are not hashed again when they were hashed
        within the last five minutes and their file has not changed since. Raises BlockUnavailableError when
        every copy is damaged.
        """
        table = self._table
        damaged = False
        for slot in table.find(cid):
            try:
                data = _read(table, slot, cid)
            except OSError:
                damaged = True
                continue
            if data is not None:
                return data
            damaged = True
        if damaged:
            raise BlockUnavailableError(f"block {cid} is damaged in the store")
        return None

    def verify(self, cid: Cid) -> bool:
        """Read and hash a block, unless that was done recently; return whether the store has it.

        Raises BlockUnavailableError when every copy is damaged.
        """
        table, since = self._table, time.monotonic() - _TRUSTED_SECONDS
        if any(table.verified[slot] > max(0.0, since) for slot in table.find(cid)):
            return True
        return self.read(cid) is not None

    def has(self, cid: Cid) -> bool:
        """Return whether the table has a block whose digest begins with the same eight bytes."""
        return next(self._table.find(cid), None) is not None

    def __len__(self) -> int:
        return len(self._table.keys)

    def _read_version(self) -> tuple[int, int] | None:
        if not self._directory.exists():
            return None
        try:
            status = self._directory.labels.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PeerError(
                f"cannot read the store at {str(self._directory.directory)!r}: {error.strerror}"
            ) from None
        return status.st_ino, status.st_mtime_ns

    def _load(self) -> None:
        table, roots = _BlockTable(), {}
        listing = self._directory.listing() if self._directory.exists() else None
        for root in sorted(listing.labelled.keys() - listing.removing) if listing else ():
            layout = self._layout(root)
            if layout is None:
                continue
            stored = StoredRoot(root, layout.car_size, len(layout))
            table.add(_CarFile(stored, self._directory.car(root)), layout)
            roots[root] = stored
        table.sort()
        self._table, self.roots = table, roots

    def _layout(self, root: Cid) -> DagLayout | None:
        """Return the layout of the CAR of `root`; None when it cannot be determined."""
        try:
            if entries.read(self._directory.label_file(root), root) is None:
                return None
            try:
                return load_index(self._directory.index(root), root)
            except DataError:
                with self._directory.opened_car(root) as fd:
                    return layout_of_car(fd, root)
        except (DataError, OSError):
            return None


def _read(table: _BlockTable, slot: int, cid: Cid) -> bytes | None:
    """Read and verify one copy of a block; None when the copy is damaged. Raises OSError."""
    car, size, offset = table.cars[table.owners[slot]], table.sizes[slot], table.offsets[slot]
    fd = os.open(car.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        since, verified = car.unchanged_since(fd), table.verified[slot]
        if verified > since and time.monotonic() - verified < _TRUSTED_SECONDS:
            known = _from_memory(fd, size, offset)
            if known is not None:
                return known
        data = fs.read_at(fd, size, offset)
    finally:
        os.close(fd)
    if not cid.matches(data):
        return None
    table.verified[slot] = time.monotonic()
    return data


_buffers = threading.local()


def _from_memory(fd: int, size: int, offset: int) -> bytes | None:
    """Read `size` bytes from the page cache; None when the system would have to read the disk."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    if not hasattr(_buffers, "buffer"):
        _buffers.buffer = bytearray(MAX_BLOCK)  # one per thread: fresh memory costs more than the copy below
    view = memoryview(_buffers.buffer)[:size]
    try:
        whole = os.preadv(fd, [view], offset, os.RWF_NOWAIT) == size
    except OSError:  # not in the page cache, or a file system without support
        return None
    return bytes(view) if whole else None
