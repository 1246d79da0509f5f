"""Verification and repair of a CAR in place, section by section.

A canonical CAR is determined by its layout, so every section has a known offset and damage in one section
never hides the next one. A repair writes only damaged sections.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from reconciler import fs
from reconciler.content import car, workers
from reconciler.content.cid import Cid
from reconciler.content.dag import HEADER_SIZE, Dag, DagLayout
from reconciler.errors import BlockUnavailableError
from reconciler.progress import Progress, Task

_SPAN_BYTES = 4 << 20  # of CAR that a thread checks at once


def is_header_valid(fd: int, layout: DagLayout) -> bool:
    """Return whether the CAR begins with the header of its root."""
    return fs.read_at(fd, HEADER_SIZE, 0) == car.header(layout.root)


def is_section_valid(layout: DagLayout, position: int, section: bytes | memoryview) -> bool:
    """Return whether `section` is the complete section of `position`: frame, CID and matching bytes."""
    cid, size = layout.cid(position), layout.block_size(position)
    prefix = car.section_prefix(cid, size)
    return (
        len(section) == len(prefix) + size
        and section[: len(prefix)] == prefix
        and cid.matches(section[len(prefix) :])
    )


def bad_positions(fd: int, layout: DagLayout, positions: Iterable[int]) -> list[int]:
    """Return those of `positions` whose section is missing or damaged."""
    return [
        position
        for position in positions
        if not is_section_valid(layout, position, fs.read_at(fd, *_section(layout, position)))
    ]


def all_bad_positions(fd: int, layout: DagLayout, task: Task) -> list[int]:
    """Read the whole CAR, on all cores; return every position whose section is missing or damaged."""
    bad: list[int] = []
    threads = workers.threads_for(fd)
    for found, size in workers.overlapped(
        partial(_inspect_span, fd, layout), spans(layout, _SPAN_BYTES), threads=threads, window=2 * threads
    ):
        bad += found
        task.advance(size)
    return bad


def _inspect_span(fd: int, layout: DagLayout, span: tuple[int, int]) -> tuple[list[int], int]:
    """Return the bad positions from span[0] up to span[1], and the number of bytes read."""
    first, stop = span
    start = layout.section_start(first)
    size = layout.section_end(stop - 1) - start
    data = memoryview(fs.read_at(fd, size, start))
    bad = [
        position
        for position in range(first, stop)
        if not is_section_valid(
            layout,
            position,
            data[layout.section_start(position) - start : layout.section_end(position) - start],
        )
    ]
    return bad, size


def spans(layout: DagLayout, size: int) -> Iterator[tuple[int, int]]:
    """Split all positions into runs of about `size` bytes of CAR; yield the first and the end of each."""
    first = 0
    while first < len(layout):
        stop = layout.section_at(layout.section_start(first) + size)
        stop = max(stop, first + 1) if stop < len(layout) - 1 else len(layout)
        yield first, stop
        first = stop


def _section(layout: DagLayout, position: int) -> tuple[int, int]:
    """Return size and offset of one section."""
    start = layout.section_start(position)
    return layout.section_end(position) - start, start


@dataclass(frozen=True, slots=True)
class RepairResult:
    """The blocks and bytes that a repair wrote, and the blocks that the source did not have."""

    blocks: int
    bytes: int
    missing: tuple[Cid, ...]


def repair_in_place(
    fd: int, dag: Dag, begin: Callable[[int], None], name: str, progress: Progress
) -> RepairResult:
    """Make the file `fd` the CAR of `dag`: read all of it, and write the sections that differ.

    `begin(growth)` is called once before the first byte changes, with the bytes by which the file will grow,
    and not at all when nothing is damaged. Everything is read from the disk, and what was written is read
    back from there: what an interrupted repair left in memory proves nothing. Raises SourceChangedError and
    PeerError of `dag`, and OSError; then some sections are repaired and the others are unchanged.
    """
    layout = dag.layout
    _flush(fd)
    with progress.task(f"checking {name}", layout.car_size) as task:
        bad = all_bad_positions(fd, layout, task)
    size = os.fstat(fd).st_size
    header = is_header_valid(fd, layout)
    if not bad and header and size == layout.car_size:
        return RepairResult(0, 0, ())
    begin(max(0, layout.car_size - size))
    if not header:
        fs.write_at(fd, car.header(layout.root), 0)
    missing: list[int] = []
    sent = 0
    with progress.task(f"repairing {name}", sum(map(layout.block_size, bad))) as task:
        for position in bad:
            start, end = layout.section_start(position), layout.section_end(position)
            try:
                section = b"".join(car.stream(dag, start, end))
            except BlockUnavailableError:
                missing.append(position)
                continue
            fs.write_at(fd, section, start)
            sent += layout.block_size(position)
            task.advance(layout.block_size(position))
    if size > layout.car_size:
        os.ftruncate(fd, layout.car_size)
    _flush(fd)
    written = sorted(set(bad) - set(missing))
    if not is_header_valid(fd, layout) or bad_positions(fd, layout, written):
        raise OSError(errno.EIO, "the disk does not return what was written")
    return RepairResult(len(written), sent, tuple(map(layout.cid, missing)))


def _flush(fd: int) -> None:
    """Flush `fd` and make the next read of it come from the disk, where the system supports it.

    Also after a flush that failed: Linux counts pages that it could not write as written.
    """
    try:
        os.fsync(fd)
    finally:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
