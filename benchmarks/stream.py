"""Measure streaming from a web server: throughput, bytes on the network, disk beside the targets, and memory.

The server is nginx on loopback if it is installed, else a server of the tests.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Figure, in_turn, main, peak_memory, warm_memory
from benchmarks.slow_line import aria2c, slowed
from tests.support.file_server import file_server
from tests.support.nginx import nginx

MIB = 1 << 20
RATE, DELAY = 10e6, 0.05  # bytes per second and connection, seconds
INDEX = """\
schema: 1
id: benchmark
defaults: {{targets: [{targets}]}}
models:
  model: {{license: MIT, versions: {{"1.0.0": {{{where}}}}}}}
"""
TARGETS = "targets:\n  store: {kind: store, path: store}\n  second: {kind: store, path: second}\n"
RUN = "import os, sys; os.chdir(sys.argv[1]); os.environ['TMPDIR'] = sys.argv[1]; sys.argv[1:] = []\n"
RUN += "from reconciler.cli import main as run\n"
RUN += "try: run()\nexcept SystemExit as done: assert done.code == 0\n"
SOURCE, DIRECTORY = 'source: "files:model"', "path: model"


def run(quick: bool, directory: Path) -> Iterator[Figure]:
    """Stream 1 GiB of random bytes into one store, against publishing a directory, and into two stores.

    `quick` takes an eighth of the bytes.
    """
    size = 1024 // (8 if quick else 1)
    weights = directory / "files" / "model"
    make_files(weights, size)
    streamed, local = directory / "streamed", directory / "local"
    shutil.copytree(weights, local / "model", copy_function=os.link)
    with counting_server(directory, weights.parent) as (url, sent):

        def tidy(targets: str = "store") -> None:
            for place, where in ((streamed, SOURCE), (local, DIRECTORY)):
                prepare(place, INDEX.format(targets=targets, where=where), url)
            warm_memory(directory, size)
            os.sync()

        peaks: list[int] = []
        spent: dict[Path, list[float]] = {streamed: [], local: []}

        def reconcile(place: Path) -> None:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            peak, _ = peak_memory(RUN, str(place))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent[place].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            if place == streamed:
                peaks.append(peak)

        timing = in_turn(lambda: reconcile(streamed), lambda: reconcile(local), between=tidy)
        tidy("store, second")
        before = sent()
        with most_disk(streamed, beside=("store", "second")) as disk:
            reconcile(streamed)
        network = sent() - before
    total = sum(path.stat().st_size for path in weights.iterdir())
    detail = f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"
    least = None if quick else 0.8  # of few bytes, the start of the process is most
    yield Figure(f"stream {size} MiB into a store / publish", timing.ratio, minimum=least, detail=detail)
    used, wanted = statistics.median(spent[streamed][:-1]), statistics.median(spent[local])
    detail = f"{wanted:.1f} / {used:.1f} s, without the server"
    yield Figure("the same, by processor time", wanted / used, detail=detail)
    yield Figure("bytes from the source for two stores / size", network / total, maximum=1.02)
    yield Figure("peak memory of streaming", max(peaks) / MIB, "MiB", maximum=192)
    yield Figure("disk beside the targets", disk() / MIB, "MiB", maximum=64)
    yield from over_slow_connections(directory, weights, streamed, size // 2)


def over_slow_connections(directory: Path, weights: Path, place: Path, size: int) -> Iterator[Figure]:
    """Stream `size` MiB into a store over connections of RATE and DELAY, against aria2c with 16 of them."""
    if shutil.which("aria2c") is None or shutil.which("nginx") is None:
        print("streaming over slow connections: not measured, aria2c or nginx is not on PATH")
        return
    shutil.rmtree(weights)
    make_files(weights, size)
    with (
        nginx(directory / "slow-nginx", f"root {weights.parent}; sendfile on;", "user root;") as url,
        slowed(int(url.rpartition(":")[2]), RATE, DELAY) as line,
    ):

        def tidy() -> None:
            prepare(place, INDEX.format(targets="store", where=SOURCE), line.url)
            shutil.rmtree(directory / "aria2c", ignore_errors=True)

        timing = in_turn(
            lambda: peak_memory(RUN, str(place)),
            lambda: aria2c(directory, [f"{line.url}/model/weights.bin"], "-x16", "-s16", "-k1M"),
            rounds=3,
            between=tidy,
        )
    detail = f"{size / timing.subject:.0f} MiB/s against {size / timing.baseline:.0f}"
    yield Figure(
        f"stream {size} MiB over slow connections / aria2c -x16", timing.ratio, minimum=0.8, detail=detail
    )


def make_files(weights: Path, size: int) -> None:
    """Write a file of `size` MiB and its SHA256SUMS."""
    weights.mkdir(parents=True)
    digest = hashlib.sha256()
    with (weights / "weights.bin").open("wb") as file:
        for _ in range(size):
            data = os.urandom(MIB)
            digest.update(data)
            file.write(data)
    (weights / "SHA256SUMS").write_text(f"{digest.hexdigest()}  weights.bin\n")


def prepare(place: Path, index: str, url: str) -> None:
    """Make `place` a repository without a state."""
    for name in ("store", "second", ".reconcile", "releases"):
        shutil.rmtree(place / name, ignore_errors=True)
    (place / "releases").mkdir(parents=True)
    (place / "releases/index.yaml").write_text(index)
    (place / "releases/targets.yaml").write_text(TARGETS)
    (place / "releases/sources.yaml").write_text(f'sources:\n  files: {{kind: http, url: "{url}"}}\n')


@contextmanager
def counting_server(directory: Path, files: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Serve `files`; yield the address, and a function that returns how many bytes were sent in bodies."""
    if shutil.which("nginx") is None:
        print("nginx is not on PATH: a server of the tests is used")
        with file_server(files) as server:
            yield server.url, lambda: server.sent
        return
    log = directory / "access.log"
    settings = f"root {files}; sendfile on; tcp_nopush on; access_log {log} combined;"
    with nginx(directory / "nginx", settings, "user root;") as url:
        yield url, lambda: sum(int(line.split('"')[2].split()[1]) for line in log.read_text().splitlines())


@contextmanager
def most_disk(place: Path, *, beside: tuple[str, ...]) -> Iterator[Callable[[], int]]:
    """Watch the bytes on the disk below `place`, without the directories `beside`, while the block runs."""
    most = [0]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            used = 0
            for at, directories, names in os.walk(place):
                if Path(at) == place:
                    directories[:] = [name for name in directories if name not in beside]
                for name in names:
                    try:
                        used += (Path(at) / name).lstat().st_blocks * 512
                    except FileNotFoundError:
                        continue
            most[0] = max(most[0], used)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield lambda: most[0]
    finally:
        ended.set()
        watcher.join()


if __name__ == "__main__":
    main(run)
