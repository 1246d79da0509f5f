"""Work on a few threads, its results in order, never more than a window of it in memory.

A DAG read from a CAR of the store, each block verified.

Every block of a store by its digest, for reading: a table in memory, and the bytes hashed on the way out.

The table comes from the block indexes beside the CARs and costs 32 bytes a block. Nothing depends on its
being right, since a block is what hashes to its CID. It is read again when the store changes.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from reconciler.content.bounds import MAX_BLOCK
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.targets.store import labels as entries
from reconciler.targets.store.layouts import layout_of_car, load_index, read_block
from reconciler.targets.store.place import StoreDirectory
from reconciler.targets.store.staging import read_all

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def overlapped(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, window: int
) -> Iterator[_Result]:
    """`work(item)` for every item, in order, on `threads` threads with at most `window` items under way.

    `items` is drawn from in the caller's thread, so that its own work (reading, hashing) overlaps as well.
    The first exception, of `items` or of `work`, ends it; what was begun is finished before it is raised.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="store") as pool:
        under_way: deque[Future[_Result]] = deque()
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= window:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


class CarFileDag:
    """The Dag of one CAR.

    It owns `fd`. Blocks that are damaged raise BlockUnavailableError when they are read.
    """

    def __init__(self, fd: int, layout: DagLayout) -> None:
        self._fd: int | None = fd
        self._layout = layout

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""
        return self._layout

    def read(self, position: int) -> bytes:
        """The verified bytes of the block at `position`. Raises BlockUnavailableError."""
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


_LOOK_SECONDS = 1.0  # between two looks at whether the store has changed
_TRUSTED_SECONDS = 300.0  # how long a block that was hashed counts as verified while its file is unchanged
_RACY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class StoredRoot:
    """One root that the store vouches for: bytes of its CAR, and the number of its blocks."""

    root: Cid
    car_size: int
    blocks: int


class _Car:
    """One CAR on disk: what it looked like when it was last read, and since when it looks like that."""

    def __init__(self, stored: StoredRoot, path: Path) -> None:
        self.stored = stored
        self.path = path
        self._seen: tuple[int, ...] = ()
        self._since = 0.0

    def unchanged_since(self, fd: int) -> float:
        """The monotonic time since when the open file has been as it is now, as far as we saw."""
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
class _Table:
    """Blocks sorted by the first eight bytes of their digests; several places may have one block."""

    cars: list[_Car] = field(default_factory=list)
    keys: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    owners: array[int] = field(default_factory=lambda: array("I"))
    verified: array[float] = field(default_factory=lambda: array("d"))  # monotonic time; 0: never

    def add(self, car: _Car, layout: DagLayout) -> None:
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
    """The blocks of the store at `directory`. Usable from several threads; holds no file open.

    Only roots that the store vouches for (a label file, no removal begun) are offered.
    """

    def __init__(self, directory: Path) -> None:
        self._place = StoreDirectory(directory)
        self._lock = threading.Lock()
        self._looked = 0.0
        self._mark: tuple[int, int] | None = None
        self._table = _Table()
        self.roots: Mapping[Cid, StoredRoot] = {}

    def refresh(self) -> None:
        """Read the table again if the store has changed; at most one look a second, by one thread.

        Raises PeerError when the directory is no store of ours, or cannot be read.
        """
        if time.monotonic() - self._looked < _LOOK_SECONDS or not self._lock.acquire(blocking=False):
            return
        try:
            mark = self._look()
            if mark != self._mark:
                self._load()
                self._mark = mark
            self._looked = time.monotonic()
        finally:
            self._lock.release()

    def read(self, cid: Cid) -> bytes | None:
        """The verified bytes of a block; None when the store has no such block.

        Whatever comes from the disk is hashed. A block that the system still has in memory, that was hashed
        in the last five minutes, in a file that has not changed since, is not hashed again. Raises
        BlockUnavailableError when every copy is damaged.
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

    def has(self, cid: Cid) -> bool:
        """Whether the table has such a block, as far as eight bytes of its digest tell."""
        return next(self._table.find(cid), None) is not None

    def __len__(self) -> int:
        return len(self._table.keys)

    def _look(self) -> tuple[int, int] | None:
        if not self._place.exists():
            return None
        try:
            status = self._place.labels.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PeerError(
                f"cannot read the store at {str(self._place.directory)!r}: {error.strerror}"
            ) from None
        return status.st_ino, status.st_mtime_ns

    def _load(self) -> None:
        table, roots = _Table(), {}
        listing = self._place.listing() if self._place.exists() else None
        for root in sorted(listing.entries - listing.removing) if listing else ():
            layout = self._layout(root)
            if layout is None:
                continue
            stored = StoredRoot(root, layout.car_size, len(layout))
            table.add(_Car(stored, self._place.car(root)), layout)
            roots[root] = stored
        table.sort()
        self._table, self.roots = table, roots

    def _layout(self, root: Cid) -> DagLayout | None:
        """Where the blocks of `root` lie; None when that cannot be told."""
        try:
            if entries.read(self._place.entry(root), root) is None:
                return None
            try:
                return load_index(self._place.index(root), root)
            except DataError:
                with self._place.opened_car(root) as fd:
                    return layout_of_car(fd, root)
        except (DataError, OSError):
            return None


def _read(table: _Table, slot: int, cid: Cid) -> bytes | None:
    """The block in one place, verified; None when it is damaged there. Raises OSError."""
    car, size, offset = table.cars[table.owners[slot]], table.sizes[slot], table.offsets[slot]
    fd = os.open(car.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        since, verified = car.unchanged_since(fd), table.verified[slot]
        if verified > since and time.monotonic() - verified < _TRUSTED_SECONDS:
            known = _from_memory(fd, size, offset)
            if known is not None:
                return known
        data = read_all(fd, size, offset)
    finally:
        os.close(fd)
    if not cid.matches(data):
        return None
    table.verified[slot] = time.monotonic()
    return data


_buffers = threading.local()


def _from_memory(fd: int, size: int, offset: int) -> bytes | None:
    """`size` bytes that the system has in its page cache; None when it would have to read the disk."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    if not hasattr(_buffers, "buffer"):
        _buffers.buffer = bytearray(MAX_BLOCK)  # one a thread: fresh memory costs more than the copy below
    view = memoryview(_buffers.buffer)[:size]
    try:
        whole = os.preadv(fd, [view], offset, os.RWF_NOWAIT) == size
    except OSError:  # not in memory, or a file system that cannot tell
        return None
    return bytes(view) if whole else None
