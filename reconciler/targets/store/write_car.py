"""A CAR streamed into a file: its offsets are known, so spans are read, hashed and written in parallel."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

from reconciler.content import car
from reconciler.content.dag import Dag
from reconciler.progress import Task
from reconciler.targets.store import durable
from reconciler.targets.store.inspect_car import spans
from reconciler.targets.store.overlap import overlapped

_SPAN_BYTES = 2 << 20
_THREADS = 2
_FLUSH_BYTES = 64 << 20  # the disk works while we hash, instead of all at the end


def write_car(fd: int, dag: Dag, task: Task) -> None:
    """Write the CAR of `dag` to the empty file `fd` and bring it to the disk.

    Every block is verified by `dag` on its way. Raises what `dag.read` raises, and OSError.
    """
    layout = dag.layout

    def write_span(span: tuple[int, int]) -> int:
        first, stop = span
        start = layout.section_start(first)
        offset = start
        for piece in car.stream(dag, start, layout.section_end(stop - 1)):
            durable.write_all(fd, piece, offset)
            offset += len(piece)
        return offset - start

    durable.write_all(fd, car.header(layout.root), 0)
    unflushed = 0
    with ThreadPoolExecutor(1, thread_name_prefix="store-flush") as flusher:
        flush: Future[None] | None = None
        for size in overlapped(write_span, spans(layout, _SPAN_BYTES), threads=_THREADS, window=2 * _THREADS):
            task.advance(size)
            unflushed += size
            if unflushed >= _FLUSH_BYTES and (flush is None or flush.done()):
                if flush is not None:
                    flush.result()  # an error of the disk is told once, and only here
                flush = flusher.submit(os.fsync, fd)
                unflushed = 0
        if flush is not None:
            flush.result()
    os.fsync(fd)
