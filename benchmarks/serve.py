"""Measure serving: a CAR against nginx, plain files against Kubo's gateway, and many clients.

nginx and Kubo are measured if they are installed. The client is curl, which discards the output.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main, seconds
from reconciler.content.bundle import bare_bundle
from reconciler.content.identify import identify
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget
from tests.support.gateway import Served, served

MIB = 1 << 20
CLIENTS = 200


def run(quick: bool, scratch: Path) -> Iterator[Figure]:
    size = (128 if quick else 2048) * MIB
    source = scratch / "weights.bin"
    with source.open("wb") as file:
        for _ in range(0, size, MIB):
            file.write(os.urandom(MIB))
    dag = identify(bare_bundle(source), cache=None)
    root, store = dag.layout.root, scratch / "store"
    StoreTarget("store", store).publish(dag, Label("reconciler/benchmark/model@1.0.0"), QUIET)
    dag.close()
    source.unlink()
    stored = store / "cars" / f"{root}.car"
    with served(scratch, store) as gateway:
        time.sleep(3)  # a recently written file is hashed on every request
        car = f"{gateway.url}/ipfs/{root}?format=car"
        yield first_time(car, size)
        plain = f"{gateway.url}/ipfs/{root}"
        yield from against_nginx(scratch, stored, car, size)
        yield from against_kubo(scratch, stored, str(root), car, plain, size)
        yield from many_clients(gateway, plain)
        yield from startup_requests(gateway, str(root))


def first_time(car: str, size: int) -> Figure:
    """Measure the first request, which hashes every block."""
    rate = size / seconds(lambda: fetch(car)) / 1e9
    return Figure(f"serve a CAR of {size // MIB} MiB for the first time", rate, "GB/s")


def against_nginx(scratch: Path, stored: Path, car: str, size: int) -> Iterator[Figure]:
    """Compare with nginx, which sends the CAR with sendfile and hashes nothing."""
    if shutil.which("nginx") is None:
        print("nginx is not on PATH: not compared with it")
        return
    with nginx(scratch / "nginx", stored.parent) as url:
        timing = in_turn(lambda: fetch(car), lambda: fetch(f"{url}/{stored.name}"))
    detail = f"{size / timing.subject / 1e9:.2f} GB/s against {size / timing.baseline / 1e9:.2f}"
    yield Figure(f"serve a CAR of {size // MIB} MiB, against nginx", timing.ratio, minimum=0.5, detail=detail)


def against_kubo(scratch: Path, stored: Path, root: str, car: str, plain: str, size: int) -> Iterator[Figure]:
    """Send the same requests to Kubo's gateway, which has the same blocks."""
    if shutil.which("ipfs") is None:
        print("ipfs is not on PATH: not compared with Kubo's gateway")
        return
    from tests.support.kubo_node import kubo_node

    config = {"Datastore.StorageMax": "1TB", "Addresses.Gateway": "/ip4/127.0.0.1/tcp/0"}
    with kubo_node(scratch / "kubo", config=config) as node:
        node.run("dag", "import", "--pin-roots=false", str(stored))
        theirs = (node.repo / "gateway").read_text().strip().replace("localhost", "127.0.0.1")
        for what, ours, other in (
            ("CAR", car, f"{theirs}/ipfs/{root}?format=car"),
            ("file", plain, f"{theirs}/ipfs/{root}"),
        ):
            timing = in_turn(partial(fetch, ours), partial(fetch, other), rounds=3)
            detail = f"{size / timing.subject / 1e9:.2f} GB/s against {size / timing.baseline / 1e9:.2f}"
            name = f"serve a {what} of {size // MIB} MiB, against Kubo's gateway"
            yield Figure(name, timing.ratio, minimum=1.0, detail=detail)
    shutil.rmtree(scratch / "kubo")


def many_clients(gateway: Served, plain: str) -> Iterator[Figure]:
    """Let CLIENTS fetch 16 MiB each at once; measure errors and the peak memory of the process."""
    started = time.perf_counter()
    clients = [
        subprocess.Popen(
            ["curl", "-sf", "-o", os.devnull, "-r", f"{n % 8 * 16 * MIB}-{(n % 8 + 1) * 16 * MIB - 1}", plain]
        )
        for n in range(CLIENTS)
    ]
    errors = sum(client.wait() != 0 for client in clients)
    rate = CLIENTS * 16 * MIB / (time.perf_counter() - started) / 1e9
    yield Figure(
        f"errors of {CLIENTS} clients at once", errors, maximum=0, detail=f"{rate:.2f} GB/s together"
    )
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    yield Figure(f"peak memory with {CLIENTS} clients", peak, "MiB", maximum=256)


def startup_requests(gateway: Served, root: str) -> Iterator[Figure]:
    """Request single blocks, one after the other on one connection."""
    number, opener = 300, urllib.request.build_opener()
    started = time.perf_counter()
    for _ in range(number):
        with opener.open(f"{gateway.url}/ipfs/{root}?format=raw") as answer:
            answer.read()
    rate = number / (time.perf_counter() - started)
    yield Figure("small blocks, one client, one at a time", rate, "a second")


def fetch(url: str) -> None:
    subprocess.run(["curl", "-sf", "-o", os.devnull, url], check=True)


@contextmanager
def nginx(home: Path, files: Path) -> Iterator[str]:
    """Run nginx on loopback, with common settings for static files."""
    home.mkdir()
    port = free_port()
    configuration = home / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {home}/pid; error_log {home}/error.log; worker_processes 1; user root;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:{port};"
        f" root {files}; }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-p", home, "-c", configuration], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/nothing", timeout=1)
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    main(run)
