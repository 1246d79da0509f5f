"""Run every benchmark: `python -m benchmarks [--quick]`; exit 1 if a figure misses its limit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks import (
    action,
    doors,
    export,
    fetch,
    identify,
    index,
    killed,
    kubo,
    line_speed,
    listing,
    loop,
    onchain,
    parts,
    pieces,
    publish,
    scaling,
    seal,
    serve,
    startup,
    storacha,
    stream,
    upload,
    wan,
)
from benchmarks.measure import Figure, main


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Run each benchmark in its own directory, which is removed afterwards to free its disk space."""
    for module in (
        *(startup, index, loop, identify, scaling, publish, stream, listing, export),
        *(pieces, onchain, storacha, kubo, parts, upload, fetch, killed, line_speed, wan),
        *(seal, serve, doors, action),
    ):
        own = directory / module.__name__.rpartition(".")[2]
        own.mkdir()
        yield from module.run(quick, own)
        shutil.rmtree(own)


main(run)
