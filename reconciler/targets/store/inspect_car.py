"""Does a CAR file hold what its layout says? Sections are read at their known offsets and hashed.

Because a canonical CAR is fixed by its layout, damage in one section never hides the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from reconciler.content import car, varint
from reconciler.content.cid import BINARY_SIZE
from reconciler.content.dag import HEADER_SIZE, DagLayout
from reconciler.progress import Task
from reconciler.targets.store.durable import read_all
from reconciler.targets.store.overlap import overlapped

_SPAN_BYTES = 4 << 20
_THREADS = 2


def header_holds(fd: int, layout: DagLayout) -> bool:
    """Whether the CAR begins with the header of its root."""
    return read_all(fd, HEADER_SIZE, 0) == car.header(layout.root)


def section_holds(layout: DagLayout, position: int, section: bytes | memoryview) -> bool:
    """Whether `section` is the whole section of the block at `position`: frame, CID and matching bytes."""
    cid, size = layout.cid(position), layout.block_size(position)
    prefix = varint.encode(BINARY_SIZE + size) + bytes(cid)
    return (
        len(section) == len(prefix) + size
        and section[: len(prefix)] == prefix
        and cid.matches(section[len(prefix) :])
    )


def bad_positions(fd: int, layout: DagLayout, positions: Iterable[int]) -> list[int]:
    """Those of `positions` whose section is missing or wrong."""
    return [
        position
        for position in positions
        if not section_holds(layout, position, read_all(fd, *_section(layout, position)))
    ]


def all_bad_positions(fd: int, layout: DagLayout, task: Task) -> list[int]:
    """Every position whose section is missing or wrong; reads the whole CAR, on two threads."""
    bad: list[int] = []
    for found, size in overlapped(
        partial(_inspect_span, fd, layout), spans(layout, _SPAN_BYTES), threads=_THREADS, window=2 * _THREADS
    ):
        bad += found
        task.advance(size)
    return bad


def _inspect_span(fd: int, layout: DagLayout, span: tuple[int, int]) -> tuple[list[int], int]:
    """The bad positions from span[0] up to span[1], and the bytes looked at."""
    first, stop = span
    start = layout.section_start(first)
    size = layout.section_end(stop - 1) - start
    data = memoryview(read_all(fd, size, start))
    bad = [
        position
        for position in range(first, stop)
        if not section_holds(
            layout,
            position,
            data[layout.section_start(position) - start : layout.section_end(position) - start],
        )
    ]
    return bad, size


def spans(layout: DagLayout, size: int) -> Iterator[tuple[int, int]]:
    """All positions as runs of about `size` bytes of CAR: first, and the one behind the last."""
    first = 0
    while first < len(layout):
        stop = layout.section_at(layout.section_start(first) + size)
        stop = max(stop, first + 1) if stop < len(layout) - 1 else len(layout)
        yield first, stop
        first = stop


def _section(layout: DagLayout, position: int) -> tuple[int, int]:
    """Size and offset of one section."""
    start = layout.section_start(position)
    return layout.section_end(position) - start, start
