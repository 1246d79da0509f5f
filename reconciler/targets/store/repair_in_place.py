"""Does a CAR file hold what its layout says? Sections are read at their known offsets and hashed.

Because a canonical CAR is fixed by its layout, damage in one section never hides the next one.

Mending a CAR in place: only bad sections are written, each at the offset that the layout gives it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from reconciler.content import car
from reconciler.content.cid import Cid
from reconciler.content.dag import HEADER_SIZE, Dag, DagLayout
from reconciler.errors import BlockUnavailableError
from reconciler.progress import Progress, Task
from reconciler.targets.store import staging
from reconciler.targets.store.staging import read_all
from reconciler.targets.store.stored_blocks import overlapped

_SPAN_BYTES = 4 << 20
_THREADS = 2


def header_holds(fd: int, layout: DagLayout) -> bool:
    """Whether the CAR begins with the header of its root."""
    return read_all(fd, HEADER_SIZE, 0) == car.header(layout.root)


def section_holds(layout: DagLayout, position: int, section: bytes | memoryview) -> bool:
    """Whether `section` is the whole section of the block at `position`: frame, CID and matching bytes."""
    cid, size = layout.cid(position), layout.block_size(position)
    prefix = car.section_prefix(cid, size)
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


@dataclass(frozen=True, slots=True)
class Mended:
    """What was written, and which blocks are still bad since nobody could give them."""

    blocks: int
    bytes: int
    missing: tuple[Cid, ...]


def mend(fd: int, dag: Dag, begin: Callable[[int], None], name: str, progress: Progress) -> Mended:
    """Make the file `fd` the CAR of `dag`, reading all of it and writing what differs.

    `begin(growth)` is called once before the first byte changes, with the bytes by which the file will grow,
    and not at all when nothing is wrong. What was written is read again from the disk. Raises SourceChanged
    and PeerError of `dag`, and OSError; then some sections are mended and the others as they were.
    """
    layout = dag.layout
    with progress.task(f"checking {name}", layout.car_size) as task:
        bad = all_bad_positions(fd, layout, task)
    size = os.fstat(fd).st_size
    header = header_holds(fd, layout)
    if not bad and header and size == layout.car_size:
        return Mended(0, 0, ())
    begin(max(0, layout.car_size - size))
    if not header:
        staging.write_all(fd, car.header(layout.root), 0)
    missing: list[int] = []
    sent = 0
    with progress.task(f"mending {name}", sum(map(layout.block_size, bad))) as task:
        for position in bad:
            start, end = layout.section_start(position), layout.section_end(position)
            try:
                section = b"".join(car.stream(dag, start, end))
            except BlockUnavailableError:
                missing.append(position)
                continue
            staging.write_all(fd, section, start)
            sent += layout.block_size(position)
            task.advance(layout.block_size(position))
    if size > layout.car_size:
        os.ftruncate(fd, layout.car_size)
    os.fsync(fd)
    staging.forget_cache(fd)
    written = sorted(set(bad) - set(missing))
    if not header_holds(fd, layout) or bad_positions(fd, layout, written):
        raise OSError(errno.EIO, "the disk does not give back what was written")
    return Mended(len(written), sent, tuple(map(layout.cid, missing)))
