"""Measure what kills cost a fetch: the bytes that the server sent, relative to the size.

A fetch is killed five times at random moments, and continued each time: 2 GiB from our own gateway at the
full speed of loopback, and 87 MiB over one connection of 12 to 50 MB/s and 10 ms. Several connections lose
more of so little, as each loses half a block with each kill. The bytes are counted where they leave the
server, so what was lost in the buffers of both systems counts as well.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.kubo import LABEL, weights
from benchmarks.line_speed import FETCH
from benchmarks.measure import PROJECT, Figure, main
from benchmarks.slow_line import slowed
from reconciler.content.bundle import bare_bundle
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget
from tests.support.gateway import Served, served

MIB = 1 << 20
KILLS = 5
TRIALS = 5
SMALL = 87
RATES = (12e6, 25e6, 50e6)  # bytes per second
DELAY = 0.01
_SENT = "reconciler_gateway_sent_bytes_total "


@dataclass(frozen=True)
class Peer:
    """A gateway at `url`; `sent` returns the bytes that left it so far."""

    url: str
    sent: Callable[[], int]


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Kill fetches at full speed, then slower ones."""
    size = 2048 // (16 if quick else 1)
    with stored(directory / "large", size) as (dag, gateway):
        name = f"fetch {size} MiB, killed {KILLS} times on loopback: sent / size"
        yield figure(name, dag, Peer(gateway.url, lambda: sent_by(gateway)), directory, connections=32)
    with stored(directory / "small", SMALL) as (dag, gateway):
        for rate in RATES:
            with slowed(gateway.port, rate, DELAY) as line:
                name = f"fetch {SMALL} MiB over one connection of {rate / 1e6:.0f} MB/s, the same"
                peer = Peer(line.url, partial(getattr, line, "received"))
                yield figure(name, dag, peer, directory, connections=1)


@contextmanager
def stored(home: Path, size: int) -> Iterator[tuple[DirectoryDag, Served]]:
    """Serve a version of `size` MiB from our own gateway."""
    home.mkdir()
    weights(home / "source", size)
    dag = identify(bare_bundle(home / "source"), cache=None)
    StoreTarget("store", home / "store").publish(dag, LABEL, QUIET)
    try:
        with served(home, home / "store") as gateway:
            yield dag, gateway
    finally:
        shutil.rmtree(home)


def figure(name: str, dag: DirectoryDag, peer: Peer, directory: Path, *, connections: int) -> Figure:
    """Return the median of several trials, each with at most that many `connections`."""
    costs = [trial(dag, peer, directory / "copy", connections, seed) for seed in range(TRIALS)]
    detail = f"{min(costs):.3f} to {max(costs):.3f} in {TRIALS} trials"
    return Figure(name, statistics.median(costs), maximum=1.05, detail=detail)


def trial(dag: DirectoryDag, peer: Peer, copy: Path, connections: int, seed: int) -> float:
    """Fetch once, with kills when random shares of the bytes have left the server."""
    size = dag.layout.size
    chance = random.Random(seed)
    before = peer.sent()
    for share in [*sorted(chance.uniform(0.02, 0.98) for _ in range(KILLS)), None]:
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, str(dag.layout.root), str(copy), str(connections), peer.url],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        while share is not None and process.poll() is None and peer.sent() - before < share * size:
            time.sleep(0.005)
        if share is not None:
            process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == 0
    time.sleep(0.2)  # the server notices closed connections
    shutil.rmtree(copy)
    return (peer.sent() - before) / size


def sent_by(gateway: Served) -> int:
    """Return what our gateway counts as sent: pieces that were given to its sockets."""
    page = gateway.get("/metrics").body.decode()
    return int(page.partition("\n" + _SENT)[2].partition("\n")[0])


if __name__ == "__main__":
    main(run)
