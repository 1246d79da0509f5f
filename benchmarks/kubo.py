"""Measure a Kubo node on loopback: publishing, interruption, repair, and a run with nothing to do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.measure import PROJECT, Figure, Timing, in_turn, main, peak_memory, seconds
from reconciler.content.bundle import make_bundle
from reconciler.content.cid import RAW, hash_block
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.errors import Where
from reconciler.index.label import Label
from reconciler.index.model import TargetSpec
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.kubo import open_target
from reconciler.targets.kubo.target import KuboTarget
from tests.support.dags import MemoryDag
from tests.support.fault_proxy import FaultProxy
from tests.support.kubo_node import KuboNode, kubo_node

MIB = 1 << 20
MARK = "reconciler/benchmark/"
LABEL = Label(f"{MARK}model@1.0.0")
PUBLISH = """
import sys
from contextlib import closing
from pathlib import Path
from benchmarks.kubo import LABEL, QUIET, packed, target
with closing(target(sys.argv[1])) as kubo:
    kubo.publish(packed(Path(sys.argv[2])), LABEL, QUIET)
"""


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Measure everything on one node, with its repository beside the source."""
    if shutil.which("ipfs") is None:
        print("publishing to Kubo: not measured, ipfs is not on PATH")
        return
    with kubo_node(directory / "node", config={"Datastore.StorageMax": "1TB"}) as node:
        yield from publishing(node, directory / "large", 2048 // (16 if quick else 1))
        yield from repairing(node, directory / "repaired", 1200 // (16 if quick else 1))
        yield from nothing_to_do(node, 100 if quick else 1000)


def publishing(node: KuboNode, source: Path, size: int) -> Iterator[Figure]:
    """Publish a directory without a known CID, up to the verified pin; compare with `ipfs add -r`."""
    weights(source, size)

    def ours() -> None:
        with closing(target(node.url)) as kubo:
            assert kubo.publish(packed(source), LABEL, QUIET).state is State.HELD

    def rival() -> None:
        node.run("add", "-r", "-Q", str(source))

    def detail(timing: Timing) -> str:
        return f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"

    def between() -> None:
        node.empty()
        os.sync()  # otherwise the disk still writes what the round before has left

    first = in_turn(ours, rival, rounds=5, between=between)
    yield Figure(f"publish {size} MiB to Kubo / ipfs add -r", first.ratio, minimum=0.85, detail=detail(first))
    dag = packed(source)

    def known() -> None:
        with closing(target(node.url)) as kubo:
            assert kubo.publish(dag, LABEL, QUIET).state is State.HELD

    again = in_turn(known, rival, rounds=5, between=between)
    yield Figure(
        "the same, the files hashed before / ipfs add -r", again.ratio, minimum=1.0, detail=detail(again)
    )
    node.empty()
    peak, _ = peak_memory(PUBLISH, node.url, str(source))
    yield Figure(f"peak memory, publish {size} MiB to Kubo", peak / MIB, "MiB", maximum=128)
    node.empty()
    yield from interrupted(node, source, dag)
    node.empty()
    shutil.rmtree(source)


def interrupted(node: KuboNode, source: Path, dag: DirectoryDag) -> Iterator[Figure]:
    """Kill a publish after half of the blocks; measure the bytes that the next run sends twice."""
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISH, node.url, str(source)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    while len(node.blocks()) < len(dag.layout) // 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)  # received blocks are written
    there = sum(block.size for block in dag.layout if node.block_file(block.cid).exists())
    with closing(target(node.url)) as kubo:
        sent = kubo.publish(dag, LABEL, QUIET).bytes_sent
    detail = f"{there / MIB:.0f} MiB were there, {sent / MIB:.0f} were sent"
    again = (there + sent - dag.layout.size) / MIB
    yield Figure("sent again after an interrupted publish", again, "MiB", maximum=1, detail=detail)


def repairing(node: KuboNode, source: Path, size: int) -> Iterator[Figure]:
    """Delete five leaves from the node's files; a repair must find them at once and send only these."""
    weights(source, size)
    dag = packed(source)
    with closing(target(node.url)) as kubo:
        kubo.publish(dag, LABEL, QUIET)
        leaves = [block.cid for block in dag.layout if block.cid.codec == RAW and block.size == MIB]
        lost = {leaves[number * len(leaves) // 5] for number in range(5)}
        for cid in lost:
            node.block_file(cid).unlink()
        expected = [Expected(dag.layout.root, (LABEL,))]
        seen = kubo.observe(expected, Check.SAMPLE, MARK, QUIET).observations[dag.layout.root]
        found = len(lost.intersection(seen.damaged))
        yield Figure(f"lost leaves of {size} MiB found in one run", found, "of 5", minimum=5)
        delivery = kubo.repair(dag, seen.damaged, LABEL, QUIET)
        sent = delivery.bytes_sent / MIB
        yield Figure("repair of 5 lost leaves sends", sent, "MiB", maximum=6)
    node.empty()
    shutil.rmtree(source)


def nothing_to_do(node: KuboNode, versions: int) -> Iterator[Figure]:
    """Measure `observe` with `--check quick` when every version is pinned: time and requests."""
    leaves = {hash_block(RAW, data): data for data in (b"%d" % number for number in range(versions))}
    dags = [MemoryDag(root, {root: data}) for root, data in leaves.items()]
    with closing(target(node.url)) as kubo:
        for number, dag in enumerate(dags):
            kubo.publish(dag, Label(f"{MARK}model@1.0.{number}"), QUIET)
    expected = [Expected(dag.layout.root, (LABEL,)) for dag in dags]
    with FaultProxy("127.0.0.1", node.port) as proxy, closing(target(proxy.url)) as kubo:

        def look() -> None:
            inventory = kubo.observe(expected, Check.QUICK, MARK, QUIET)
            assert {seen.state for seen in inventory.observations.values()} == {State.HELD}

        taken = seconds(look)
        yield Figure(f"nothing to do over {versions} versions", taken, "s", maximum=2.0)
        yield Figure(f"requests over {versions} versions", len(proxy.paths), "requests", maximum=2)


def target(url: str) -> KuboTarget:
    spec = TargetSpec("node", "kubo", {"api": url}, Where("benchmark"))
    return open_target(spec, root=Path(), environ={})


def weights(directory: Path, size: int) -> None:
    """Write one file of `size` MiB of random bytes."""
    directory.mkdir()
    with (directory / "model.bin").open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))


def packed(source: Path) -> DirectoryDag:
    """Identify the bundle of `source`."""
    listing = scan(source, include_hidden=False)
    bundle = make_bundle(
        listing, model="model", version="1.0.0", format="safetensors", created_at="2026-05-07T00:00:00Z"
    )
    return identify(bundle, cache=None)


if __name__ == "__main__":
    main(run)
