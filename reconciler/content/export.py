"""Writing the CAR of a Dag to a file, with several threads, and exporting it atomically.

Every offset in a CAR is known, so each thread reads, hashes and writes spans of its own. Meanwhile the
calling thread flushes what is written, so that the disk works from the beginning and not only at the end.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from reconciler.content import car, workers
from reconciler.content.background_flush import INTERVAL
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import ReconcilerError, UsageError
from reconciler.fs import staged_file, write_at
from reconciler.progress import QUIET, Progress, Task

_SPAN = 4 << 20  # approximate bytes of the blocks that a thread takes at once


def export(dag: Dag, path: Path, progress: Progress = QUIET) -> None:
    """Write the CAR of `dag` to `path`, which must not exist.

    An export that is killed leaves `.<name>.partial`, which the next one to the same path reuses. Raises
    UsageError when `path` exists, LockedError while another process exports to it, ReconcilerError when the
    disk is full or fails, and what `Dag.read` raises; then no file is left.
    """
    if os.path.lexists(path):
        raise UsageError(f"{str(path)!r} already exists", hint="remove it, or choose another name")
    total = dag.layout.car_size
    staging = path.parent / f".{path.name}.partial"
    try:
        with staged_file(path, staging=staging) as descriptor, progress.task("writing", total) as task:
            if shutil.disk_usage(path.parent).free < total:
                raise _disk_full(path, total)
            write_car(descriptor, dag, task)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(path, total) from None
        raise ReconcilerError(
            f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}"
        ) from None


def write_car(descriptor: int, dag: Dag, task: Task) -> None:
    """Write the CAR of `dag` to the empty file `descriptor` and flush it to the disk.

    `task` counts the bytes of the CAR. Raises what `dag.read` raises, and OSError.
    """
    header = car.header(dag.layout.root)
    write_at(descriptor, header, 0)
    task.advance(len(header))
    written: SimpleQueue[int | None] = SimpleQueue()
    spans = workers.SharedItems(_spans(dag.layout))
    threads = workers.threads_for(descriptor)

    def write() -> None:
        try:
            for start, stop in spans:
                at = start
                for chunk in car.stream(dag, start, stop):
                    write_at(descriptor, chunk, at)
                    at += len(chunk)
                    written.put(len(chunk))
        except BaseException:
            spans.stop()
            raise
        finally:
            written.put(None)

    with ThreadPoolExecutor(threads, thread_name_prefix="write-car") as pool:
        try:
            writers = [pool.submit(write) for _ in range(threads)]
            _flush_progress(descriptor, written, threads, task)
        finally:
            spans.stop()
    for writer in writers:
        writer.result()
    os.fsync(descriptor)


def _flush_progress(descriptor: int, written: SimpleQueue[int | None], running: int, task: Task) -> None:
    """Count what `running` threads write and flush it regularly, until each of them has put its None."""
    unflushed = 0
    while running:
        size = written.get()
        if size is None:
            running -= 1
            continue
        task.advance(size)
        unflushed += size
        if unflushed >= INTERVAL:
            os.fsync(descriptor)
            unflushed = 0


def _spans(layout: DagLayout) -> Iterator[tuple[int, int]]:
    """Split the CAR after its header at block boundaries into spans of about _SPAN bytes."""
    start = layout.section_start(0)
    for position in range(len(layout)):
        stop = layout.section_end(position)
        if stop - start >= _SPAN or position == len(layout) - 1:
            yield start, stop
            start = stop


def _disk_full(path: Path, total: int) -> ReconcilerError:
    return ReconcilerError(
        f"no space for {str(path)!r}: {total} bytes are needed",
        hint="free some space or choose another disk; no file was left behind",
    )
