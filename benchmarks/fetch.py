"""Measure verified fetching from a gateway on loopback against curl and `ipfs get`.

Measured for the bare files, as curl and `ipfs get` fetch them, and for a bundle. For a bundle, SHA256SUMS is
checked as well, so every byte is hashed twice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.kubo import LABEL, packed, target, weights
from benchmarks.measure import Figure, Timing, in_turn, main, peak_memory, warm_memory
from reconciler.consume.content_cache import ContentCache
from reconciler.consume.fetch import fetch
from reconciler.consume.gateway_source import GatewaySource
from reconciler.consume.local_sources import store_source
from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget
from tests.support.gateway import served
from tests.support.kubo_node import KuboNode, kubo_node

MIB = 1 << 20
FETCH = """
import sys
from pathlib import Path
from reconciler.consume.fetch import fetch
from reconciler.consume.gateway_source import GatewaySource
from reconciler.content.cid import parse
from reconciler.progress import QUIET
fetch(parse(sys.argv[2]), Path(sys.argv[3]), [GatewaySource(sys.argv[1])], QUIET, name="model")
"""


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Fetch a file of 2 GiB from our own gateway and, if installed, from Kubo's; then two versions."""
    size = 2048 // (16 if quick else 1)
    source = directory / "source"
    weights(source, size)
    bare, bundle = identify(bare_bundle(source), cache=None), packed(source)
    store = directory / "store"
    for number, dag in enumerate((bare, bundle)):
        StoreTarget("store", store).publish(dag, Label(f"{LABEL}{number}"), QUIET)
    with served(directory, store) as gateway:
        yield from fetching(gateway.url, bare.layout.root, directory, size, "our gateway", minimum=0.5)
        yield from fetching(gateway.url, bundle.layout.root, directory, size, "our gateway, sums too")
        copy = directory / "copy"
        peak, _ = peak_memory(FETCH, gateway.url, str(bundle.layout.root), str(copy))
        shutil.rmtree(copy)
        yield Figure(f"peak memory, fetch {size} MiB", peak / MIB, "MiB", maximum=128)
    if shutil.which("ipfs") is None:
        print("fetching from Kubo: not measured, ipfs is not on PATH")
    else:
        with kubo_node(directory / "node", config={"Datastore.StorageMax": "1TB"}) as node:
            yield from from_kubo(node, bare, directory, size, "Kubo", minimum=1.0)
            node.empty()
            yield from from_kubo(node, bundle, directory, size, "Kubo, sums too")
    shutil.rmtree(source)
    shutil.rmtree(store)
    yield from sharing(directory, size // 8)


def fetching(
    url: str, root: Cid, directory: Path, size: int, name: str, minimum: float | None = None
) -> Iterator[Figure]:
    """Compare with `curl -o` of the same CAR from the same gateway."""
    copy, car = directory / "copy", directory / "copy.car"

    def ours() -> None:
        fetch(root, copy, [GatewaySource(url)], QUIET, name="model")

    def curl() -> None:
        subprocess.run(["curl", "-s", "-f", "-o", car, f"{url}/ipfs/{root}?format=car"], check=True)

    def tidy() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        car.unlink(missing_ok=True)
        warm_memory(directory, 2 * size)

    timing = in_turn(ours, curl, between=tidy)
    tidy()
    what = f"fetch {size} MiB from {name} / curl of its CAR"
    yield Figure(what, timing.ratio, minimum=minimum, detail=detail(timing, size))


def from_kubo(
    node: KuboNode, dag: DirectoryDag, directory: Path, size: int, name: str, minimum: float | None = None
) -> Iterator[Figure]:
    """Fetch from Kubo's gateway; compare with curl and with `ipfs get`, which verify nothing."""
    with closing(target(node.url)) as kubo:
        kubo.publish(dag, LABEL, QUIET)
    root, url, copy = dag.layout.root, node.gateway, directory / "copy"

    def tidy() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        warm_memory(directory, 2 * size)

    yield from fetching(url, root, directory, size, name, minimum=minimum and 0.5)
    timing = in_turn(
        lambda: fetch(root, copy, [GatewaySource(url)], QUIET, name="model"),
        lambda: node.run("get", "-o", str(copy), str(root)),
        rounds=3,
        between=tidy,
    )
    tidy()
    what = f"fetch {size} MiB from {name} / ipfs get"
    yield Figure(what, timing.ratio, minimum=minimum, detail=detail(timing, size))


def sharing(directory: Path, size: int) -> Iterator[Figure]:
    """Measure how much of the second of two versions is fetched, when they share nine of ten files."""
    stores, roots = directory / "versions", []
    store = StoreTarget("store", stores)
    source = directory / "version"
    source.mkdir()
    for version in range(2):
        for number in range(10):
            if version == 0 or number == 9:
                (source / f"shard-{number}").write_bytes(os.urandom(size * MIB // 10))
        dag = identify(bare_bundle(source), cache=None)
        store.publish(dag, Label(f"{LABEL}{version}"), QUIET)
        roots.append(dag.layout.root)
    cache = ContentCache(directory / "cache")
    for number, root in enumerate(roots):
        done = fetch(
            root,
            directory / f"fetched-{number}",
            [store_source(stores, root)],
            QUIET,
            name="model",
            caches=[cache],
        )
    share = sum(source.bytes for source in done.sources) / done.size * 100
    yield Figure("a version that shares 9 of 10 files fetches", share, "%", maximum=12)


def detail(timing: Timing, size: int) -> str:
    return f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"


if __name__ == "__main__":
    main(run)
