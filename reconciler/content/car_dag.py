"""A CARv1 file as a `Dag`: fully verified when opened, read by offset afterwards.

Other programs write blocks in any order; the layout is derived from the root. A CAR may contain blocks that
are not below its root: they are ignored and counted.
"""

from __future__ import annotations

import os
import stat
from array import array
from pathlib import Path
from types import TracebackType
from typing import Self

from reconciler.content.car_reader import CarReader
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.content.walk import DagMap, walk
from reconciler.errors import BlockUnavailableError, DataError
from reconciler.fs import read_at
from reconciler.progress import Progress

_BUFFER = 1024 * 1024


class CarDag:
    """One complete DAG in a CAR file, made by `open_car`.

    `extra_blocks` counts the blocks of the file that are not part of the DAG.
    """

    def __init__(
        self, path: Path, descriptor: int, dag_map: DagMap, offsets: array[int], extra_blocks: int
    ) -> None:
        self.path = path
        self.map = dag_map
        self.extra_blocks = extra_blocks
        self._descriptor = descriptor
        self._offsets = offsets  # by layout position

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in canonical CAR order, whatever the order of the file."""
        return self.map.layout

    def read(self, position: int) -> bytes:
        """Return the verified block at `position`. Raises BlockUnavailableError when the file has changed."""
        cid = self.layout.cid(position)
        try:
            data = read_at(self._descriptor, self.layout.block_size(position), self._offsets[position])
        except OSError as error:
            raise BlockUnavailableError(f"cannot read {str(self.path)!r}: {error.strerror}") from None
        if not cid.matches(data):
            place = self.map.locate(position)
            raise BlockUnavailableError(
                f"{str(self.path)!r} changed since it was opened: hash of block {cid} differs ({place})"
            )
        return data

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_car(path: Path, progress: Progress) -> CarDag:
    """Read and verify the CAR at `path` once, and check that it contains the whole DAG of its root.

    Raises DataError when the file or the DAG is invalid, BlockUnavailableError when a block is missing.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise DataError(f"cannot open {str(path)!r}: {error.strerror}") from None
    try:
        return _open(path, descriptor, progress)
    except OSError as error:
        os.close(descriptor)
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except BaseException:
        os.close(descriptor)
        raise


class _BlockIndex:
    """Offset and size of each block of the file by CID, in arrays to save memory."""

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.sizes = array("Q")
        self._places: dict[bytes, int] = {}

    def add(self, cid: Cid, offset: int, size: int) -> None:
        """Add a block; of equal ones the first counts."""
        if self._places.setdefault(bytes(cid), len(self.sizes)) == len(self.sizes):
            self.offsets.append(offset)
            self.sizes.append(size)

    def find(self, cid: Cid) -> int | None:
        """Return the number of a block in `offsets` and `sizes`, or None."""
        return self._places.get(bytes(cid))

    def __len__(self) -> int:
        return len(self.sizes)


def _open(path: Path, descriptor: int, progress: Progress) -> CarDag:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{str(path)!r} is not a regular file")
    index = _BlockIndex()
    with (
        open(descriptor, "rb", buffering=_BUFFER, closefd=False) as stream,
        progress.task(f"verify {path.name}", status.st_size) as task,
    ):
        reader = CarReader(stream)
        consumed = 0
        for section in reader:
            index.add(section.cid, section.offset, len(section.data))
            task.advance(reader.offset - consumed)
            consumed = reader.offset

    def read(cid: Cid) -> bytes:
        place = index.find(cid)
        if place is None:
            raise BlockUnavailableError(f"{str(path)!r} is incomplete: inner node {cid} is missing")
        data = read_at(descriptor, index.sizes[place], index.offsets[place])
        if not cid.matches(data):
            raise BlockUnavailableError(
                f"{str(path)!r} changed while it was read: hash of block {cid} differs"
            )
        return data

    root_place = index.find(reader.root)
    if root_place is None:
        raise BlockUnavailableError(f"{str(path)!r} is incomplete: root block {reader.root} is missing")
    dag_map = walk(reader.root, read, raw_size=index.sizes[root_place])
    layout = dag_map.layout
    offsets = array("Q")
    for position in range(len(layout)):
        cid = layout.cid(position)
        place = index.find(cid)
        if place is None:
            raise BlockUnavailableError(
                f"{str(path)!r} is incomplete: leaf {cid} is missing ({dag_map.locate(position)})"
            )
        if index.sizes[place] != layout.block_size(position):
            raise DataError(
                f"block {cid} ({dag_map.locate(position)}) has {index.sizes[place]} bytes; "
                f"its parent declares {layout.block_size(position)}"
            )
        offsets.append(index.offsets[place])
    extra = len(index) - len(layout)
    if extra:
        blocks = "1 block" if extra == 1 else f"{extra} blocks"
        progress.note(f"{path.name} contains {blocks} not below its root")
    return CarDag(path, descriptor, dag_map, offsets, extra)
