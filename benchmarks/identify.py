"""Measure `identify` against plain SHA-256 over the same bytes, and its memory.

The baseline is the minimum for any program: two threads, each of which reads all bytes and hashes them with
`hashlib.sha256`. A second baseline maps the files, which saves the copy from the page cache. A tool cannot
do that, because truncating a mapped file kills its reader.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main, peak_memory
from reconciler.content.bundle import make_bundle
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from tests.support.large_files import sparse_file

MIB = 1 << 20
GIB = 1 << 30


def run(quick: bool, scratch: Path) -> Iterator[Figure]:
    scale = 16 if quick else 1
    large, many = scratch / "large", scratch / "many"
    _fill(large, 1, 2 * GIB // scale)
    _fill(many, 100, 20 * MIB // scale)
    yield from _speed(f"identify, one file of {2048 // scale} MiB", large, minimum=0.95)
    yield from _speed(f"identify, 100 files of {20 * MIB // scale / MIB:g} MiB", many, minimum=0.95)
    for path in (*large.iterdir(), *many.iterdir()):
        path.unlink()
    for name, numbered in (("every leaf different", True), ("all zeros", False)):
        root = scratch / ("numbered" if numbered else "zeros")
        weights = root / "weights.bin"
        sparse_file(weights, 16 * GIB // scale)
        if not numbered:
            os.truncate(weights, 0)
            os.truncate(weights, 16 * GIB // scale)
        for task, code in (("identify", _IDENTIFY), ("identify and stream the CAR", _IDENTIFY + _STREAM)):
            peak, output = peak_memory(code, str(root))
            yield Figure(
                f"{task}, {16 // scale} GiB, {name}", peak / MIB, "MiB", maximum=96, detail=output[-1]
            )


def _speed(name: str, root: Path, minimum: float) -> Iterator[Figure]:
    paths = list(root.iterdir())
    size = sum(path.stat().st_size for path in paths)
    for hashed, how, least in ((_read, "", minimum), (_mapped, ", against mapped files", None)):
        timing = in_turn(partial(_identify, root), partial(_two_threads, hashed, paths))
        detail = f"{size / timing.subject / 1e9:.2f} GB/s against {size / timing.baseline / 1e9:.2f}"
        yield Figure(name + how, timing.ratio, minimum=least, detail=detail)


def _identify(root: Path) -> None:
    identify(make_bundle(scan(root, include_hidden=False), model="m", version="1.0.0"), cache=None)


def _two_threads(hash_all: Callable[[list[Path]], None], paths: list[Path]) -> None:
    threads = [threading.Thread(target=hash_all, args=(paths,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _read(paths: list[Path]) -> None:
    view = memoryview(bytearray(MIB))
    for path in paths:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(view):
                digest.update(view[:count])


def _mapped(paths: list[Path]) -> None:
    for path in paths:
        digest = hashlib.sha256()
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
            memoryview(mapped) as view,
        ):
            for start in range(0, len(view), MIB):
                digest.update(view[start : start + MIB])


def _fill(root: Path, count: int, size: int) -> None:
    """Write `count` files of `size` bytes, in which no two mebibytes are equal."""
    root.mkdir()
    body = bytes(range(256)) * (MIB // 256)
    for number in range(count):
        with (root / f"{number:03}.bin").open("wb") as file:
            for start in range(0, size, MIB):
                leaf = number.to_bytes(8, "big") + start.to_bytes(8, "big") + body
                file.write(leaf[: min(MIB, size - start)])


_IDENTIFY = """
import sys
from pathlib import Path
from reconciler.content import car
from reconciler.content.bundle import make_bundle
from reconciler.content.identify import identify
from reconciler.content.scan import scan

listing = scan(Path(sys.argv[1]), include_hidden=False)
dag = identify(make_bundle(listing, model="m", version="1.0.0"), cache=None)
print(f"{dag.identity.blocks} blocks, a CAR of {dag.identity.car_size} bytes")
"""

_STREAM = """
assert sum(map(len, car.stream(dag))) == dag.identity.car_size
"""

if __name__ == "__main__":
    main(run)
