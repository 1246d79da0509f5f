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
from reconciler.content.car import RootNaming, Sharding
from reconciler.content.directory_dag import DirectoryDag
from reconciler.errors import Where
from reconciler.index.model import TargetSpec
from reconciler.progress import QUIET
from reconciler.targets.interface import State, Target
from reconciler.targets.ipfs_cluster import open_target as open_cluster
from reconciler.targets.storacha import ahead
from reconciler.targets.storacha.ahead import CarsAhead
from reconciler.targets.storacha.target import CLIENT_SHARDING
from tests.support.kubo_node import kubo_node
from tests.support.peers_cluster import cluster, missing_programs
from tests.support.storacha_service import packages, storacha_service
from tests.targets.storacha.subjects import opened

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
    yield from to_storacha(dag, directory / "storacha")


def to_storacha(dag: DirectoryDag, home: Path) -> Iterator[Figure]:
    """Upload CARs of 32 MiB to a service whose storage is far, several at a time and one after the other."""
    installed = packages()
    if installed is None:
        print("uploading to Storacha: not measured, because npm cannot install the service")
        return
    taken = []
    for at_once in (0, ahead.AT_ONCE):
        place = home / str(at_once)
        place.mkdir(parents=True)
        with (
            storacha_service(installed, place, uplink=int(RATE)) as service,
            opened(service, sharding=Sharding(32 * MIB, RootNaming.LAST)) as space,
        ):
            if not at_once:
                vars(space)["_cars_ahead"] = lambda *_: CarsAhead(dag, CLIENT_SHARDING, None)
            taken.append(seconds(lambda: space.publish(dag, LABEL, QUIET)))
    one, several = taken
    yield Figure(
        f"upload {dag.layout.size // MIB} MiB to a far Storacha / one CAR at a time",
        one / several,
        minimum=1.5,
        detail=f"{several:.1f} s against {one:.1f}",
    )


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
