"""Measure streaming a version from a source into the store against publishing the same directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main, peak_memory

MIB = 1 << 20
INDEX = """\
schema: 1
id: benchmark
defaults: {{targets: [store, second]}}
models:
  model: {{license: MIT, versions: {{"1.0.0": {{{where}}}}}}}
"""
TARGETS = "targets:\n  store: {kind: store, path: store}\n  second: {kind: store, path: second}\n"
RUN = "import os, sys; os.chdir(sys.argv[1]); sys.argv[1:] = []; from reconciler.cli import main as run\n"
RUN += "try: run()\nexcept SystemExit as done: assert done.code == 0\n"


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Time 1 GiB of random bytes into two stores, and read the peak memory of the process."""
    size = 1024 // (2 if quick else 1)
    weights = directory / "share" / "model"
    weights.mkdir(parents=True)
    with (weights / "weights.bin").open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
    streamed, local = directory / "streamed", directory / "local"
    sources = f"sources:\n  share: {{kind: directory, path: {weights.parent}}}\n"
    shutil.copytree(weights, local / "model", copy_function=os.link)

    def tidy() -> None:
        for place, where in ((streamed, 'source: "share:model"'), (local, "path: model")):
            for name in ("store", "second", ".reconcile", "releases"):
                shutil.rmtree(place / name, ignore_errors=True)
            (place / "releases").mkdir(parents=True)
            (place / "releases/index.yaml").write_text(INDEX.format(where=where))
            (place / "releases/targets.yaml").write_text(TARGETS)
            (place / "releases/sources.yaml").write_text(sources)
        os.sync()

    peaks: list[int] = []
    tidy()
    timing = in_turn(
        lambda: peaks.append(peak_memory(RUN, str(streamed))[0]),
        lambda: peak_memory(RUN, str(local)),
        rounds=3,
        between=tidy,
    )
    detail = f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"
    yield Figure(f"stream {size} MiB into two stores / publish", timing.ratio, minimum=0.8, detail=detail)
    yield Figure("peak memory of streaming / limit of 192 MiB", max(peaks) / (192 * MIB), maximum=1)


if __name__ == "__main__":
    main(run)
