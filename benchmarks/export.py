"""Measure the export of a CAR, with every block verified, against `cp` and `fsync`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main
from reconciler.content.bundle import bare_bundle
from reconciler.content.export import export
from reconciler.content.identify import identify

MIB = 1 << 20


def run(quick: bool, scratch: Path) -> Iterator[Figure]:
    size = (128 if quick else 2048) * MIB
    source, copy, car = scratch / "weights.bin", scratch / "copy.bin", scratch / "weights.car"
    with source.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(start.to_bytes(8, "big") + bytes(range(1, 256)) * (MIB // 255) + bytes(48))
        file.truncate(size)
        os.fsync(file.fileno())
    dag = identify(bare_bundle(source), cache=None)

    def copied() -> None:
        subprocess.run(["cp", "--sparse=never", "--reflink=never", source, copy], check=True)
        with copy.open("rb") as file:
            os.fsync(file.fileno())

    def tidy() -> None:
        copy.unlink(missing_ok=True)
        car.unlink(missing_ok=True)
        os.sync()

    timing = in_turn(lambda: export(dag, car), copied, between=tidy)
    detail = f"{size / timing.subject / 1e9:.2f} GB/s against {size / timing.baseline / 1e9:.2f}"
    yield Figure(
        f"export a CAR of {size // MIB} MiB, against cp and fsync", timing.ratio, minimum=0.6, detail=detail
    )


if __name__ == "__main__":
    main(run)
