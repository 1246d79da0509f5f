"""Measure fetching over slow connections, 10 MB/s and 50 ms each, against aria2c with 16 of them.

Client, server and the delay share one machine. aria2c fetches the same bytes from the same address and
verifies nothing. The extra bytes are those that the gateway sent beyond the size of the content.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import PROJECT, Figure, Timing, in_turn, main
from benchmarks.slow_line import SlowLine, aria2c, slow_line
from reconciler.content.bundle import bare_bundle
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify

MIB = 1 << 20
RATE, DELAY = 10e6, 0.05
SMALL = 20_000  # bytes
FETCH = """
import sys
from pathlib import Path
from reconciler.consume.fetch import fetch
from reconciler.consume.gateway_source import GatewaySource
from reconciler.content.cid import parse
from reconciler.download.limits import DownloadLimits
from reconciler.progress import QUIET
root, destination, connections, *urls = sys.argv[1:]
limits = DownloadLimits(int(connections))
fetch(parse(root), Path(destination), list(map(GatewaySource, urls)), QUIET, name="model", limits=limits)
"""


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Fetch a large file from one gateway and from two, then many small files."""
    missing = [name for name in ("aria2c", "nginx") if shutil.which(name) is None]
    if missing:
        print(f"fetching over slow connections: not measured, {' and '.join(missing)} is not on PATH")
        return
    yield from large(directory / "large", 192 if quick else 768)
    yield from small(directory / "small", 4000 if quick else 20_000)


def large(home: Path, size: int) -> Iterator[Figure]:
    """Fetch one file of `size` MiB."""
    source = home / "source"
    source.mkdir(parents=True)
    with (source / "model.bin").open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
    dag = identify(bare_bundle(source), cache=None)
    with ExitStack() as stack:
        lines = [
            stack.enter_context(slow_line(home / f"line-{n}", dag, source, rate=RATE, delay=DELAY))
            for n in range(2)
        ]
        cid = next((home / "line-0/files").iterdir()).name
        timing = against_aria2c(home, dag, lines[:1], [f"{lines[0].url}/ipfs/{cid}"], rounds=3)
        before = lines[0].received
        ours(home, dag, lines[:1])
        extra = (lines[0].received - before) / (size * MIB) - 1
        yield Figure(
            f"fetch {size} MiB, slow connections / aria2c -x16",
            timing.ratio,
            minimum=0.9,
            detail=rate(timing, size),
        )
        yield Figure("extra bytes of it", extra * 100, "%", maximum=2)
        # A quarter of the connections: otherwise the two cores, not the lines, are the limit.
        two = in_turn(
            lambda: ours(home, dag, lines, connections=8),
            lambda: ours(home, dag, lines[:1], connections=8),
            rounds=3,
            between=lambda: tidy(home),
        )
        yield Figure(
            "two slow gateways / one, 8 connections each", two.ratio, minimum=1.7, detail=rate(two, size)
        )
    shutil.rmtree(home)


def small(home: Path, count: int) -> Iterator[Figure]:
    """Fetch `count` files of 20 KB."""
    source = home / "source"
    source.mkdir(parents=True)
    for number in range(count):
        (source / f"{number:05}").write_bytes(os.urandom(SMALL))
    dag = identify(bare_bundle(source), cache=None)
    with slow_line(home / "line", dag, source, rate=RATE, delay=DELAY) as line:
        urls = [f"{line.url}/ipfs/{path.name}" for path in (home / "line/files").iterdir()]
        timing = against_aria2c(home, dag, [line], urls, rounds=1)
    what = f"fetch {count} files of 20 KB, slow connections / aria2c"
    yield Figure(what, timing.ratio, minimum=0.8, detail=rate(timing, count * SMALL / MIB))
    shutil.rmtree(home)


def against_aria2c(
    home: Path, dag: DirectoryDag, lines: Sequence[SlowLine], urls: list[str], *, rounds: int
) -> Timing:
    return in_turn(
        lambda: ours(home, dag, lines),
        lambda: aria2c(home, urls, "-x16", "-s16", "-k1M", "-j16"),
        rounds=rounds,
        between=lambda: tidy(home),
    )


def ours(home: Path, dag: DirectoryDag, lines: Sequence[SlowLine], connections: int = 32) -> None:
    """Fetch in a process of its own, as the command does."""
    tidy(home)
    urls = [line.url for line in lines]
    subprocess.run(
        [sys.executable, "-c", FETCH, str(dag.layout.root), str(home / "copy"), str(connections), *urls],
        check=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


def tidy(home: Path) -> None:
    for name in ("copy", "aria2c"):
        shutil.rmtree(home / name, ignore_errors=True)


def rate(timing: Timing, size: float) -> str:
    return f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"


if __name__ == "__main__":
    main(run)
