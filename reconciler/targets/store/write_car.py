"""A CAR streamed into a file: reading and hashing in this thread, writing in another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial

from reconciler.content import car
from reconciler.content.dag import Dag
from reconciler.progress import Task
from reconciler.targets.store.overlap import overlapped

_BATCH_BYTES = 1 << 20
_BATCH_PIECES = 512  # IOV_MAX is at least 1,024 where Python runs
_WINDOW = 8


def write_car(fd: int, dag: Dag, task: Task) -> None:
    """Write the CAR of `dag` to the empty file `fd` and bring it to the disk; every block is verified by
    `dag`.

    Raises what `dag.read` raises, and OSError.
    """
    for size in overlapped(partial(_append, fd), _batches(car.stream(dag)), threads=1, window=_WINDOW):
        task.advance(size)
    os.fsync(fd)


def _batches(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """`pieces` gathered into lists worth a system call."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BATCH_BYTES or len(batch) == _BATCH_PIECES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _append(fd: int, batch: list[bytes]) -> int:
    """Write the batch at the end of the file; how many bytes that was."""
    total = sum(map(len, batch))
    written = os.writev(fd, batch)
    while written < total:  # rare: a signal or a nearly full disk
        rest = b"".join(batch)[written:]
        written += os.write(fd, rest)
    return total
