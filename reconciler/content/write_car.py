"""A CAR written into a file: every offset is known, so two threads read, hash and write spans of their own.

Meanwhile the caller's thread brings what is written to the disk, so that the disk works from the beginning
and not only at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Lock

from reconciler.content import car
from reconciler.content.dag import Dag, DagLayout
from reconciler.progress import Task

_THREADS = 2
_SPAN = 4 << 20  # bytes of blocks that a thread takes at once, about
_FLUSH = 64 << 20


def write_car(descriptor: int, dag: Dag, task: Task) -> None:
    """Write the CAR of `dag` to the empty file `descriptor` and bring it to the disk.

    `task` counts the bytes of the CAR. Raises what `dag.read` raises, and OSError.
    """
    header = car.header(dag.layout.root)
    _write_at(descriptor, header, 0)
    task.advance(len(header))
    written: SimpleQueue[int | None] = SimpleQueue()
    waiting = _spans(dag.layout)
    taking, stopped = Lock(), Event()

    def take() -> tuple[int, int] | None:
        with taking:
            return None if stopped.is_set() else next(waiting, None)

    def write() -> None:
        try:
            while span := take():
                start, stop = span
                for piece in car.stream(dag, start, stop):
                    _write_at(descriptor, piece, start)
                    start += len(piece)
                    written.put(len(piece))
        except BaseException:
            stopped.set()
            raise
        finally:
            written.put(None)

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="write-car") as threads:
        try:
            writers = [threads.submit(write) for _ in range(_THREADS)]
            _flush_along(descriptor, written, task)
        finally:
            stopped.set()
    for writer in writers:
        writer.result()
    os.fsync(descriptor)


def _flush_along(descriptor: int, written: SimpleQueue[int | None], task: Task) -> None:
    """Report what the threads write and flush it now and then, until each of them has put its None."""
    running, unflushed = _THREADS, 0
    while running:
        size = written.get()
        if size is None:
            running -= 1
            continue
        task.advance(size)
        unflushed += size
        if unflushed >= _FLUSH:
            os.fsync(descriptor)
            unflushed = 0


def _spans(layout: DagLayout) -> Iterator[tuple[int, int]]:
    """The CAR behind its header, cut at block boundaries into stretches of about _SPAN bytes."""
    start = layout.section_start(0)
    for position in range(len(layout)):
        stop = layout.section_end(position)
        if stop - start >= _SPAN or position == len(layout) - 1:
            yield start, stop
            start = stop


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
