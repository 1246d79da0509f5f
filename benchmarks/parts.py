"""Measure the peak memory of publishing a version in parts from a web server into a Kubo node."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, main, peak_memory
from benchmarks.stream import INDEX, SOURCE, counting_server, make_files, prepare
from tests.support.kubo_node import kubo_node

MIB = 1 << 20
RUN = "import os, sys; os.chdir(sys.argv[1]); sys.argv[1:] = sys.argv[2:]\n"
RUN += "from reconciler.cli import main as run\n"
RUN += "try: run()\nexcept SystemExit as done: assert done.code == 0\n"


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Publish 2 GiB in two parts and 512 MiB in three, and then the whole versions; `quick`: a sixteenth."""
    if shutil.which("ipfs") is None:
        print("parts of versions: not measured, ipfs is not on PATH")
        return
    for size, count in ((2048, 2), (512, 3)):
        yield from in_parts(directory / str(size), size // (16 if quick else 1), count)


def in_parts(directory: Path, size: int, count: int) -> Iterator[Figure]:
    """Publish a version of `size` MiB in so many parts, each by a process of its own, and then the whole."""
    weights = directory / "files" / "model"
    make_files(weights, size)
    (directory / "node").mkdir()
    with counting_server(directory, weights.parent) as (url, sent), kubo_node(directory / "node") as node:
        place = directory / "place"
        prepare(place, INDEX.format(targets="node", where=SOURCE), url)
        target = f'targets: {{node: {{kind: kubo, api: "{node.url}"}}}}\n'
        (place / "releases/targets.yaml").write_text(target)
        peaks = []
        for part in range(1, count + 1):
            selected = ("--only", f"model@1.0.0#{part}/{count}", "--propose", "none")
            peaks.append(peak_memory(RUN, str(place), *selected)[0] / MIB)
        before = sent()
        whole, _ = peak_memory(RUN, str(place), "--propose", "none")
    detail = ", ".join(f"{peak:.0f}" for peak in peaks)
    name = f"peak memory of a part, {size} MiB in {count}"
    yield Figure(name, max(peaks), "MiB", maximum=160, detail=detail)
    yield Figure("the same of the whole version after them", whole / MIB, "MiB", maximum=160)
    yield Figure("bytes from the source for it / size", (sent() - before) / (size * MIB), maximum=0.02)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main(run)
