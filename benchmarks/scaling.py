"""Show by simulation that identifying and verifying use all cores of a machine that is larger than this one.

The program is real, its threads, locks and schedules included; only reading and hashing are simulated: they
sleep, without the interpreter lock, for as long as a core would need. A run on N workers has N times as many
bytes as one on a single worker, so a perfect program needs the same time for both. What limits it is the
interpreter, which runs in one thread at a time; so the speed of a core matters, and there are two.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from benchmarks.measure import Figure, main, seconds
from reconciler.content import cid as cids
from reconciler.content import hashing, workers
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout, verify_blocks
from reconciler.content.scan import SourceFile, scan
from reconciler.progress import QUIET

MIB = 1 << 20
WORKERS = (2, 4, 8, 16, 32)
_READ = 4e9  # bytes a second that a core copies from the page cache


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Compare each number of workers with one; the files have holes instead of bytes."""
    for core, speed, mebibytes, minimum in (("0.5 GB/s", 0.5e9, 160, 0.85), ("1.6 GB/s", 1.6e9, 384, None)):
        _SleepingHash.speed = speed
        share = mebibytes // (4 if quick else 1)  # of each worker
        for name, prepare in _CASES.items():
            place = directory / f"{name}, {core}"
            alone = _time(prepare(place / "1", 1, share), 1)
            for count in WORKERS:
                taken = _time(prepare(place / str(count), count, share), count)
                yield Figure(
                    f"{name}: {count} cores that hash {core}, per core",
                    alone / taken,
                    minimum=minimum if prepare in _LIMITED else None,
                    detail=f"{count * share / 1024 / taken:.1f} GiB/s",
                )


def _time(work: Callable[[], object], count: int) -> float:
    def cores() -> int:
        return count

    with ExitStack() as stack:
        stack.enter_context(patch.object(workers, "cores", cores))
        stack.enter_context(patch.object(hashing, "hashlib", SimpleNamespace(sha256=_SleepingHash)))
        stack.enter_context(patch.object(cids, "hashlib", SimpleNamespace(sha256=_SleepingHash)))
        stack.enter_context(patch.object(os, "preadv", _sleeping_read))
        return seconds(work)


class _SleepingHash:
    """A hash that only takes the time, at `speed` bytes a second; its digest is that of no bytes."""

    speed = 1.0

    def __init__(self, data: bytes | memoryview = b"") -> None:
        self.update(data)

    def update(self, data: bytes | memoryview) -> None:
        if len(data):
            time.sleep(len(data) / self.speed)

    def digest(self) -> bytes:
        return _DIGEST


_DIGEST = hashlib.sha256().digest()


def _sleeping_read(descriptor: int, buffers: list[memoryview], offset: int) -> int:  # noqa: ARG001
    size = len(buffers[0])
    time.sleep(size / _READ)
    return size


# --- cases: each returns the work on `count` times `share` MiB


def _shards(directory: Path, count: int, share: int) -> Callable[[], object]:
    """Identify a model of many files, with their sums."""
    _holes(directory, 4 * count, share // 4)
    return lambda: _hash(directory, sums=True)


def _one_file(directory: Path, count: int, share: int) -> Callable[[], object]:
    """Identify one file without its sum, whose leaves alone can be shared."""
    _holes(directory, 1, count * share)
    return lambda: _hash(directory, sums=False)


def _small_files(directory: Path, count: int, share: int) -> Callable[[], object]:
    """Identify files of 1 MiB, with their sums, which are their leaves."""
    _holes(directory, count * share, 1)
    return lambda: _hash(directory, sums=True)


def _verify(directory: Path, count: int, share: int) -> Callable[[], object]:  # noqa: ARG001
    """Verify every block of a version that is read from anywhere."""
    dag = _SleepingDag(count * share)
    return lambda: verify_blocks(dag, QUIET.task("", None))


_CASES: dict[str, Callable[[Path, int, int], Callable[[], object]]] = {
    "identify files of one model": _shards,
    "identify one file, root only": _one_file,
    "identify files of 1 MiB": _small_files,
    "verify": _verify,
}
_LIMITED = (_shards, _one_file, _verify)  # for small files, opening takes as long as hashing


def _hash(directory: Path, *, sums: bool) -> None:
    listing = scan(directory, include_hidden=False)

    def done(file: SourceFile, digests: hashing.FileDigests) -> None:
        pass

    hashing.hash_files(listing, listing.files, sums=sums, task=QUIET.task("", None), done=done)


def _holes(directory: Path, files: int, mebibytes: int) -> None:
    directory.mkdir(parents=True)
    for number in range(files):
        with (directory / f"{number:04}.bin").open("wb") as file:
            file.truncate(mebibytes * MIB)


class _SleepingDag:
    """A DAG of leaves, each of which takes the time to read and to hash it."""

    def __init__(self, leaves: int) -> None:
        self.layout = DagLayout(Cid(RAW, bytes(32)))
        for number in range(leaves):
            self.layout.add(Cid(RAW, number.to_bytes(32, "big")), MIB)
        self._block = bytes(MIB)

    def read(self, position: int) -> bytes:
        time.sleep(MIB / _READ)
        self.layout.cid(position).matches(self._block)
        return self._block

    def close(self) -> None:
        pass


if __name__ == "__main__":
    main(run)
