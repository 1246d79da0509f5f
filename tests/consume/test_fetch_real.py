"""Fetching from real peers: a Kubo node by its gateway and by its RPC, and our own gateway as a process."""

from __future__ import annotations

import hashlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.gateway_source import GatewaySource
from reconciler.consume.local_sources import kubo_source
from reconciler.consume.sources import BlockRange, Parts, Source
from reconciler.content.cid import Cid
from reconciler.index.label import Label
from reconciler.net.deadline import Timeouts
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET, Progress, Task
from reconciler.targets.store import StoreTarget
from tests.consume.conftest import files
from tests.support.dags import MemoryDag, memory_dag
from tests.support.gateway import Served, keep, served
from tests.support.kubo_node import KuboNode, kubo_node
from tests.support.store_files import car_path
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ipfs

MIB = 1 << 20


def bundle() -> dict[str, bytes]:
    """Return the files of a bundle: two of several leaves, a hundred small ones, an empty one, SHA256SUMS."""
    chance = random.Random(5)
    found = {
        "config.json": b'{"layers": 2}\n',
        "empty": b"",
        "model-00001.safetensors": chance.randbytes(40 * MIB + 12345),
        "model-00002.safetensors": chance.randbytes(33 * MIB),
        **{f"tokenizer/{number:03}.txt": b"token %d\n" % number for number in range(100)},
    }
    lines = [f"{hashlib.sha256(found[name]).hexdigest()}  {name}\n" for name in sorted(found)]
    return {**found, "SHA256SUMS": "".join(lines).encode()}


@dataclass
class Peers:
    """A Kubo node and our gateway with the same bundle."""

    dag: MemoryDag
    node: KuboNode
    ours: Served


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    return bundle()


@pytest.fixture(scope="module")
def peers(expected: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    home = tmp_path_factory.mktemp("peers")
    below = {name.partition("/")[2]: data for name, data in expected.items() if "/" in name}
    flat = {name: data for name, data in expected.items() if "/" not in name}
    dag = memory_dag({**flat, "tokenizer": below})
    keep(home / "store", dag)
    with kubo_node(home / "node") as node, served(home, home / "store") as ours:
        node.run("dag", "import", str(car_path(home / "store", dag)))
        yield Peers(dag, node, ours)


def run(peers: Peers, destination: Path, *sources: Source, progress: Progress = QUIET) -> Fetched:
    return fetch(peers.dag.layout.root, destination, sources, progress, name="it")


NAMED: dict[str, Callable[[Peers], Source]] = {
    "the gateway of Kubo": lambda peers: GatewaySource(peers.node.gateway),
    "the RPC of Kubo": lambda peers: kubo_source(peers.node.url),
    "our own gateway": lambda peers: GatewaySource(peers.ours.url),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_bundle_is_fetched_from(
    name: str, peers: Peers, expected: dict[str, bytes], tmp_path: Path
) -> None:
    done = run(peers, tmp_path / "d", NAMED[name](peers))
    assert files(tmp_path / "d") == expected
    assert done.sums, "SHA256SUMS was verified too"
    assert [(source.bad, source.dropped) for source in done.sources] == [(0, "")]
    size = sum(block.size for block in peers.dag.layout)
    assert done.sources[0].bytes <= size, "nothing was fetched twice"


def test_all_sources_are_used_at_once(peers: Peers, expected: dict[str, bytes], tmp_path: Path) -> None:
    done = run(peers, tmp_path / "d", *(make(peers) for make in NAMED.values()))
    assert files(tmp_path / "d") == expected
    assert sum(source.bytes > 0 for source in done.sources) >= 2
    assert not any(source.dropped for source in done.sources)


GIVEN_UP = 3.0  # seconds without a request; a source that is tried again is paused for less


class KillsAt:
    """A Progress that kills a node after the first `size` bytes of the transfer; `killed` is set then."""

    def __init__(self, node: KuboNode, size: int) -> None:
        self._node, self._left = node, size
        self.killed = threading.Event()

    def task(self, label: str, total: int | None) -> Task:
        """Count the bytes of the transfer only."""
        return _Watched(self) if label.startswith("fetch") else QUIET.task(label, total)

    def note(self, text: str) -> None:
        """Ignore the note."""

    def advance(self, amount: int) -> None:
        """Count the bytes, and kill the node when the last one is reached."""
        before, self._left = self._left, self._left - amount
        if self._left <= 0 < before:
            self._node.stop(signal.SIGKILL)
            self.killed.set()


class _Watched:
    def __init__(self, owner: KillsAt) -> None:
        self._owner = owner

    def advance(self, amount: int) -> None:
        self._owner.advance(amount)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class KeepsTime(GatewaySource):
    """A gateway that knows when it was asked last: one that was given up is asked no more."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._asked = time.monotonic()

    @property
    def idle(self) -> float:
        """Seconds since the last request ended."""
        return time.monotonic() - self._asked

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._asked = time.monotonic()
        try:
            yield
        finally:
            self._asked = time.monotonic()

    def read_block(self, cid: Cid, size: int | None) -> bytes:
        with self._counted():
            return super().read_block(cid, size)

    @contextmanager
    def stream_blocks(self, requested: BlockRange) -> Iterator[Iterator[tuple[Cid, Parts]] | None]:
        with self._counted(), super().stream_blocks(requested) as blocks:
            yield blocks


class Waits(GatewaySource):
    """A gateway that, once a node was killed, delivers no block before that node is dropped."""

    def __init__(self, url: str, killed: threading.Event, dying: KeepsTime) -> None:
        super().__init__(url)
        self._killed, self._dying = killed, dying

    def _wait(self) -> None:
        if self._killed.is_set():
            wait_until("the killed node is asked no more", lambda: self._dying.idle > GIVEN_UP, 60)

    def read_block(self, cid: Cid, size: int | None) -> bytes:
        self._wait()
        return super().read_block(cid, size)

    @contextmanager
    def stream_blocks(self, requested: BlockRange) -> Iterator[Iterator[tuple[Cid, Parts]] | None]:
        with super().stream_blocks(requested) as blocks:
            yield None if blocks is None else self._held_back(blocks)

    def _held_back(self, blocks: Iterator[tuple[Cid, Parts]]) -> Iterator[tuple[Cid, Parts]]:
        for block in blocks:
            self._wait()
            yield block


def test_a_killed_node_is_dropped_and_the_other_source_finishes(
    peers: Peers, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """The other delivers nothing from the kill, after 8 MiB, until the node is asked no more."""
    limits = {"timeouts": Timeouts(connect=2.0, silence=5.0, total=20.0), "retry": NO_RETRY}
    dying, kills = KeepsTime(peers.node.gateway, **limits), KillsAt(peers.node, 8 * MIB)
    try:
        alive = Waits(peers.ours.url, kills.killed, dying)
        done = run(peers, tmp_path / "d", dying, alive, progress=kills)
    finally:
        peers.node.stop()
        peers.node.start()
    assert files(tmp_path / "d") == expected
    assert done.sums
    killed, other = done.sources
    assert killed.dropped and killed.bad == 0, "the report has the reason, and no bad block"
    assert not other.dropped
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_block_that_one_source_lacks_comes_from_the_other(
    peers: Peers, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """A node that lost a block file is not dropped: it serves the other blocks."""
    leaf = max(n for n in range(len(peers.dag.layout)) if peers.dag.layout.block_size(n) == MIB)
    file = peers.node.block_file(peers.dag.layout.cid(leaf))
    kept = file.read_bytes()
    file.unlink()
    try:
        done = run(peers, tmp_path / "d", kubo_source(peers.node.url), GatewaySource(peers.ours.url))
    finally:
        file.write_bytes(kept)
        peers.node.restart()  # it caches that the block was missing
    assert files(tmp_path / "d") == expected
    assert not any(source.dropped or source.bad for source in done.sources)


def test_fetched_files_can_be_published_and_fetched_again(
    peers: Peers, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """From the node to a new store, and from there through our gateway."""
    run(peers, tmp_path / "d", kubo_source(peers.node.url))
    target = StoreTarget("again", tmp_path / "store")
    target.publish(memory_dag(_nested(files(tmp_path / "d"))), Label("reconciler/acme/model@1.0.0"), QUIET)
    with served(tmp_path, tmp_path / "store") as again:
        run(peers, tmp_path / "e", GatewaySource(again.url))
    assert files(tmp_path / "e") == expected


def _nested(flat: dict[str, bytes]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, data in flat.items():
        parent, _, child = name.rpartition("/")
        where = found.setdefault(parent, {}) if parent else found
        assert isinstance(where, dict)
        where[child] = data
    return found
