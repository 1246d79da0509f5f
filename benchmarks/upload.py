"""Measure uploads over a path where each connection gets 10 MB/s and 50 ms, against one connection of it.

Real peers on loopback, behind the proxy of `slow_uplink`: Kubo, IPFS Cluster, and a Storacha service. One
connection at full rate from the first moment would take the size divided by the rate; that is the baseline.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.kubo import LABEL, packed, target, weights
from benchmarks.measure import Figure, main, seconds
from benchmarks.slow_uplink import SlowUplink, slow_uplink
from reconciler.content.directory_dag import DirectoryDag
from reconciler.errors import Where
from reconciler.index.model import TargetSpec
from reconciler.progress import QUIET
from reconciler.targets.interface import State, Target
from reconciler.targets.ipfs_cluster import open_target as open_cluster
from tests.support.kubo_node import kubo_node
from tests.support.peers_cluster import cluster, missing_programs

MIB = 1 << 20
RATE, DELAY = 10e6, 0.05


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Publish the same directory through each path."""
    size = 128 if quick else 256
    source = directory / "source"
    weights(source, size)
    dag = packed(source)
    if shutil.which("ipfs") is None:
        print("uploading over slow connections: not measured, ipfs is not on PATH")
        return
    with kubo_node(directory / "node") as node, slow_uplink(node.port, rate=RATE, delay=DELAY) as line:
        yield from sent("Kubo", line, target(line.url), dag)
    if missing := missing_programs():
        print(f"uploading to a cluster: not measured, {missing}")
    else:
        with (
            cluster(directory / "cluster") as (peer,),
            slow_uplink(int(peer.rest.rpartition(":")[2]), rate=RATE, delay=DELAY) as line,
        ):
            spec = TargetSpec("cluster", "ipfs-cluster", {"api": line.url}, Where("benchmark"))
            yield from sent("IPFS Cluster", line, open_cluster(spec, root=Path(), environ={}), dag)


def sent(name: str, line: SlowUplink, target: Target, dag: DirectoryDag) -> Iterator[Figure]:
    """Publish to a peer that has none of the blocks; compare with one connection that is never idle."""
    size = dag.layout.size

    def publish() -> None:
        assert target.publish(dag, LABEL, QUIET).state is State.HELD

    with closing(target):
        taken = seconds(publish)
    detail = f"{size / MIB / taken:.0f} MiB/s on {line.most} connections"
    yield Figure(
        f"publish {size // MIB} MiB to a far {name} / one connection",
        size / RATE / taken,
        minimum=4,
        detail=detail,
    )
    extra = (line.sent / size - 1) * 100
    yield Figure(f"bytes sent beyond the size, {name}", extra, "%", maximum=2)


if __name__ == "__main__":
    main(run)
