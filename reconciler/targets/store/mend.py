"""Mending a CAR in place: only bad sections are written, each at the offset that the layout gives it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.content import car
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import BlockUnavailable
from reconciler.progress import Progress
from reconciler.targets.store import durable, inspect_car


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
        bad = inspect_car.all_bad_positions(fd, layout, task)
    size = os.fstat(fd).st_size
    header = inspect_car.header_holds(fd, layout)
    if not bad and header and size == layout.car_size:
        return Mended(0, 0, ())
    begin(max(0, layout.car_size - size))
    if not header:
        durable.write_all(fd, car.header(layout.root), 0)
    missing: list[int] = []
    sent = 0
    with progress.task(f"mending {name}", sum(map(layout.block_size, bad))) as task:
        for position in bad:
            start, end = layout.section_start(position), layout.section_end(position)
            try:
                section = b"".join(car.stream(dag, start, end))
            except BlockUnavailable:
                missing.append(position)
                continue
            durable.write_all(fd, section, start)
            sent += layout.block_size(position)
            task.advance(layout.block_size(position))
    if size > layout.car_size:
        os.ftruncate(fd, layout.car_size)
    os.fsync(fd)
    durable.forget_cache(fd)
    written = sorted(set(bad) - set(missing))
    if not inspect_car.header_holds(fd, layout) or inspect_car.bad_positions(fd, layout, written):
        raise OSError(errno.EIO, "the disk does not give back what was written")
    return Mended(len(written), sent, tuple(map(layout.cid, missing)))
