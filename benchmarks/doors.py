"""Measure the doors: one large file through each against the plain gateway and nginx, and many clients.

nginx is measured if it is installed. The client is curl, which discards the output.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main
from benchmarks.serve import MIB, fetch, many_clients, nginx
from tests.support.doors import DoorServer, door_server
from tests.support.gguf import llama
from tests.support.releases import Releases

MODEL = "acme/large"
SMALL_FILES = 158  # besides the large one and the GGUF model


def run(quick: bool, scratch: Path) -> Iterator[Figure]:
    size = (128 if quick else 2048) * MIB
    releases = make_release(scratch / "repository", size)
    with door_server(scratch, releases=releases) as server:
        time.sleep(3)  # a recently written file is hashed on every request
        urls = addresses(server)
        for url in urls.values():
            fetch(url)  # warm: every block has been hashed once
        yield from against_the_gateway(urls, size)
        yield from against_nginx(scratch, releases, urls, size)
        yield from manifests(server)
        yield from many_clients(server.served, urls["hf"])


def make_release(root: Path, size: int) -> Releases:
    """Publish a version with one file of `size` random bytes, a small GGUF file and SMALL_FILES others."""
    releases = Releases(root)
    releases.add(f"{MODEL}@1.0.0", {f"part-{n:03}.json": b"{}" * n for n in range(1, SMALL_FILES)})
    directory = releases.source(f"{MODEL}@1.0.0")
    (directory / "tiny-Q8_0.gguf").write_bytes(llama(7))
    with (directory / "weights.bin").open("wb") as file:
        for _ in range(0, size, MIB):
            file.write(os.urandom(MIB))
    releases.apply()
    return releases


def addresses(server: DoorServer) -> dict[str, str]:
    """Return the address of the large file through the gateway and every door."""
    root = server.releases.cid(f"{MODEL}@1.0.0")
    digest = hashlib.sha256()
    with (server.releases.source(f"{MODEL}@1.0.0") / "weights.bin").open("rb") as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return {
        "gateway": f"{server.url}/ipfs/{root}/weights.bin",
        "hf": f"{server.url}/{MODEL}/resolve/main/weights.bin",
        "oci": f"{server.url}/v2/{MODEL}/blobs/sha256:{digest.hexdigest()}",
    }


def against_the_gateway(urls: dict[str, str], size: int) -> Iterator[Figure]:
    """Compare each door with the plain gateway on the same bytes. Blobs of ollama are those of oci."""
    for name in ("hf", "oci"):
        timing = in_turn(partial(fetch, urls[name]), partial(fetch, urls["gateway"]))
        detail = f"{size / timing.subject / 1e9:.2f} GB/s against {size / timing.baseline / 1e9:.2f}"
        yield Figure(
            f"a file of {size // MIB} MiB through the door {name}, against the gateway",
            timing.ratio,
            minimum=0.8,
            detail=detail,
        )


def against_nginx(scratch: Path, releases: Releases, urls: dict[str, str], size: int) -> Iterator[Figure]:
    """Compare each door with nginx, which sends the file with sendfile and hashes nothing."""
    if shutil.which("nginx") is None:
        print("nginx is not on PATH: not compared with it")
        return
    with nginx(scratch / "nginx", releases.source(f"{MODEL}@1.0.0")) as url:
        for name in ("hf", "oci"):
            timing = in_turn(partial(fetch, urls[name]), partial(fetch, f"{url}/weights.bin"))
            detail = f"{size / timing.subject / 1e9:.2f} GB/s against {size / timing.baseline / 1e9:.2f}"
            yield Figure(
                f"a file of {size // MIB} MiB through the door {name}, against nginx",
                timing.ratio,
                minimum=0.5,
                detail=detail,
            )


def manifests(server: DoorServer) -> Iterator[Figure]:
    """Measure the median time of the list of files of a version of 160 files, warm, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.served.port)
    for name, path in (
        ("hf", f"/api/models/{MODEL}/tree/main?recursive=true"),
        ("oci", f"/v2/{MODEL}/manifests/latest"),
        ("ollama", f"/v2/{MODEL}/manifests/latest"),
    ):
        times = []
        headers = {"User-Agent": "ollama/0.0.0"} if name == "ollama" else {}
        for _ in range(21):
            started = time.perf_counter()
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            times.append(time.perf_counter() - started)
            assert answer.status == 200, body
            json.loads(body)
        median = sorted(times[1:])[10] * 1000
        yield Figure(f"list of files of a version of 160 files, door {name}", median, "ms", maximum=20)
    connection.close()


if __name__ == "__main__":
    main(run)
