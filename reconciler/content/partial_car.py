"""A CAR that is written before its root is known: leaves at their places, in any order, resumed after a kill.

A provisional layout has the offset of each leaf. A leaf is written as a section with its CID, so each section
proves itself: an interrupted file needs no list of what it has. Until the root is known, the place of the
header has a mark; without it, nothing in the file is used again. At the end the other blocks are added. If
some leaves turn out to be equal, the ones after them move towards the beginning, one after the other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from itertools import groupby
from threading import Lock

from reconciler.content import car
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import HEADER_SIZE, Dag, DagLayout
from reconciler.errors import DataError
from reconciler.fs import read_at, write_at, write_parts_at
from reconciler.progress import Task

_MARK = b"unfinished CAR of a bundle without a root, 1\n".ljust(HEADER_SIZE, b".")


class PartialCar:
    """The open file `descriptor`, written by one process; an unfinished file of this kind is continued.

    `provisional` is the layout of the unfinished file. Usable from several threads until `complete`.
    """

    def __init__(self, descriptor: int, provisional: DagLayout) -> None:
        self._descriptor = descriptor
        self._layout = provisional
        self._places: dict[bytes, int] = {}  # position of each leaf that is in the file, by its digest
        self._lock = Lock()
        if read_at(descriptor, HEADER_SIZE, 0) == _MARK:
            self.resumed = True
        else:
            os.ftruncate(descriptor, 0)
            write_at(descriptor, _MARK, 0)
            self.resumed = False

    def put(self, leaves: Sequence[tuple[int, Cid, bytes | memoryview]]) -> int:
        """Write leaves, by position, except those that are there; return how many were written.

        Raises ValueError for one of another size.
        """
        new = [leaf for leaf in leaves if self._is_new(*leaf)]
        for _, run in groupby(enumerate(new), lambda pair: pair[1][0] - pair[0]):
            parts: list[bytes | memoryview] = []
            together = [leaf for _, leaf in run]
            for _, cid, data in together:
                parts += [car.section_prefix(cid, len(data)), data]
            write_parts_at(self._descriptor, parts, self._layout.section_start(together[0][0]))
            for position, cid, _ in together:
                self._note(cid.digest, position)
        return len(new)

    def _is_new(self, position: int, cid: Cid, data: bytes | memoryview) -> bool:
        if len(data) != self._layout.block_size(position):
            raise ValueError(f"a leaf of {len(data)} bytes at {position}")
        with self._lock:
            return self._places.get(cid.digest, len(self._layout)) > position

    def held(self, position: int) -> bytes | None:
        """Return the leaf that an interrupted process wrote at `position`, verified; None without one."""
        size = self._layout.block_size(position)
        if not self.resumed:
            return None
        found = self._section(self._layout.section_start(position), size)
        if found is None or found[0].codec != RAW:
            return None
        self._note(found[0].digest, position)
        return found[1]

    def leaf(self, position: int, cid: Cid) -> bytes | None:
        """Return the leaf `cid` at `position`, of this process or an earlier one, verified; else None."""
        found = self._section(self._layout.section_start(position), self._layout.block_size(position))
        return found[1] if found is not None and found[0] == cid else None

    def read(self, cid: Cid) -> bytes | None:
        """Return the leaf `cid` that was put or held, verified; None without it."""
        place = self._places.get(cid.digest)
        if place is None or cid.codec != RAW:
            return None
        start, size = self._layout.section_start(place), self._layout.block_size(place)
        found = self._section(start, size)
        return found[1] if found is not None and found[0] == cid else None

    def complete(self, dag: Dag, task: Task, flush: Callable[[], None]) -> None:
        """Turn the file into the CAR of `dag`, and call `flush` for it.

        Leaves that are not in the file, or no longer intact, are read from `dag`. Raises what `dag.read`
        raises, and OSError.
        """
        layout = dag.layout
        header = car.header(layout.root)
        if self._moves(layout):
            write_at(self._descriptor, header, 0)
            flush()  # from here on, no section proves its place
        for position in range(len(layout)):
            cid, size = layout.cid(position), layout.block_size(position)
            if not self._is_in_place(layout, position):
                data = self.read(cid)
                if data is None:
                    data = dag.read(position)
                section = car.section_prefix(cid, size) + data
                write_at(self._descriptor, section, layout.section_start(position))
            task.advance(size)
        write_at(self._descriptor, header, 0)
        os.ftruncate(self._descriptor, layout.car_size)
        flush()

    def _moves(self, layout: DagLayout) -> bool:
        return any(
            self._place(layout, position) is not None and not self._is_in_place(layout, position)
            for position in range(len(layout))
        )

    def _place(self, layout: DagLayout, position: int) -> int | None:
        return self._places.get(layout.cid(position).digest) if layout.is_leaf(position) else None

    def _is_in_place(self, layout: DagLayout, position: int) -> bool:
        place = self._place(layout, position)
        return place is not None and self._layout.section_start(place) == layout.section_start(position)

    def _note(self, digest: bytes, position: int) -> None:
        with self._lock:
            self._places[digest] = min(position, self._places.get(digest, position))

    def _section(self, start: int, size: int) -> tuple[Cid, bytes] | None:
        data = read_at(self._descriptor, car.MAX_SECTION_PREFIX + size, start)
        try:
            cid, begin, length = car.decode_section_prefix(data)
        except (DataError, ValueError):
            return None
        block = data[begin : begin + size]
        if length != size or len(block) != size or hashlib.sha256(block).digest() != cid.digest:
            return None
        return cid, block
