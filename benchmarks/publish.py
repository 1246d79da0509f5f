"""Measure publishing a large file to the embedded store against `cp` and `fsync` of the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main
from reconciler.content.bundle import bare_bundle
from reconciler.content.identify import identify
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget

MIB = 1 << 20
LABEL = Label("reconciler/benchmark/model@1.0.0")


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Time reading, verifying and storing 2 GiB of random bytes whose CIDs are known."""
    size = 2048 // (16 if quick else 1)
    source = directory / "source" / "model.bin"
    source.parent.mkdir()
    with source.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
    dag = identify(bare_bundle(source.parent), cache=None)
    copy, store = directory / "copy", directory / "store"

    def copied() -> None:
        subprocess.run(["cp", "--sparse=never", "--reflink=never", source, copy], check=True)
        fd = os.open(copy, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def tidy() -> None:
        copy.unlink(missing_ok=True)
        shutil.rmtree(store, ignore_errors=True)
        os.sync()

    timing = in_turn(lambda: StoreTarget("store", store).publish(dag, LABEL, QUIET), copied, between=tidy)
    dag.close()
    detail = f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"
    yield Figure(f"publish {size} MiB into the store / cp + fsync", timing.ratio, minimum=0.6, detail=detail)


if __name__ == "__main__":
    main(run)
