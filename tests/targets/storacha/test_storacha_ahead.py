"""CARs that are stored ahead of the upload: it follows them, and a failure or a kill ends all clients."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from reconciler.content import car
from reconciler.content.bundle import bare_bundle
from reconciler.content.car import RootNaming, Sharding, shard_spans
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.pieces import HashedCar, shard_pieces
from reconciler.net.errors import AccessDeniedError
from reconciler.progress import QUIET
from reconciler.targets.interface import State
from reconciler.targets.storacha.ahead import AT_ONCE, CarsAhead
from tests.support.dags import MemoryDag
from tests.support.killed import has_text, kill_when
from tests.support.plant import MIB, noise, plant
from tests.support.storacha_service import StorachaService
from tests.targets.storacha.subjects import opened

SHARDING = Sharding(MIB + 1000, RootNaming.LAST)  # one leaf in each CAR
LEAVES = 5


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> DirectoryDag:
    root = plant(tmp_path_factory.mktemp("ahead"), {"weights.bin": noise(LEAVES * MIB, 5)})
    return identify(bare_bundle(root), cache=None)


class Stored:
    """The CARs that were stored, and what the upload has passed on; `before` is called with each CAR."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.before = before
        self.cars: list[bytes] = []
        self.lock = threading.Lock()

    def store(self, chunks: Iterable[bytes], waiting: Callable[[], None]) -> None:
        data = b"".join(chunks)
        self.before()
        waiting()
        with self.lock:
            self.cars.append(data)


def test_the_upload_gets_no_end_of_a_car_that_is_not_stored(dag: DirectoryDag) -> None:
    shards = shard_pieces(dag, SHARDING).shards
    stored = Stored(lambda: time.sleep(0.02))
    whole, passed = HashedCar(dag, SHARDING), b""
    with CarsAhead(dag, SHARDING, stored.store) as ahead:
        for chunk in ahead.follow(whole, lambda: None):
            complete = sum(
                dag.layout.section_start(span.first) <= len(passed)
                for span in car.shard_spans(dag.layout, SHARDING)[1:]
            )
            assert len(stored.cars) >= complete
            passed += chunk
        assert len(stored.cars) == len(shards) >= LEAVES
    assert passed == b"".join(car.stream(dag))
    assert sorted(map(len, stored.cars)) == sorted(shard.size for shard in shards)
    assert whole.pieces.shards == shards


@pytest.mark.parametrize("what", ["no client", "one car", "not on this machine"])
def test_nothing_is_sent_ahead(dag: DirectoryDag, what: str) -> None:
    stored = Stored()
    remote = MemoryDag(dag.layout.root, {each.cid: dag.read(n) for n, each in enumerate(dag.layout)})
    chosen = remote if what == "not on this machine" else dag
    sharding = Sharding(MIB * 99, RootNaming.LAST) if what == "one car" else SHARDING
    with CarsAhead(chosen, sharding, None if what == "no client" else stored.store) as ahead:
        assert b"".join(ahead.follow(car.stream(chosen), lambda: None)) == b"".join(car.stream(chosen))
    assert stored.cars == []


def test_a_failure_ends_the_upload_and_the_other_clients(dag: DirectoryDag) -> None:
    ended: list[str] = []
    failing = [True, *[False] * len(shard_spans(dag.layout, SHARDING))]
    begun = threading.Barrier(AT_ONCE)

    def store(chunks: Iterable[bytes], waiting: Callable[[], None]) -> None:
        if not ended:
            begun.wait(60)
        try:
            if sum(map(len, chunks)) and failing.pop(0):
                ended.append("failed")
                raise AccessDeniedError("space", "refused")
            while True:
                time.sleep(0.05)
                waiting()
        finally:
            ended.append("stopped")

    def follow() -> Iterator[bytes]:
        with CarsAhead(dag, SHARDING, store) as ahead:
            yield from ahead.follow(car.stream(dag), lambda: None)

    with pytest.raises(AccessDeniedError):
        list(follow())
    assert ended[0] == "failed"
    assert AT_ONCE <= ended.count("stopped") <= AT_ONCE + 1, "every client that was begun has ended"


def test_an_interruption_while_it_waits_ends_the_clients(dag: DirectoryDag) -> None:
    def store(_: Iterable[bytes], waiting: Callable[[], None]) -> None:
        while True:
            time.sleep(0.05)
            waiting()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), CarsAhead(dag, SHARDING, store) as ahead:
        list(ahead.follow(car.stream(dag), interrupt))


STORING = """
import sys
from pathlib import Path
from tests.targets.storacha.test_storacha_client import fake
pid, took = sys.argv[2:]
body = f"open({pid!r}, 'w').write(str(os.getpid())); sys.stdin.buffer.read(); "
body += f"__import__('time').sleep(0.5); open({took!r}, 'w')"
client = fake(Path(sys.argv[1]), body)._client
def endless():
    while True:
        yield bytes(1000)
        __import__("time").sleep(0.01)
client.store_car(endless())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the client")
def test_a_client_whose_run_is_killed_does_not_store_what_it_has(tmp_path: Path) -> None:
    """It would take the end of its input for the end of the CAR. It sees that end moments before it is
    killed, and a real client hashes a CAR before it stores it."""
    pid, took = tmp_path / "pid", tmp_path / "took"
    environ = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", STORING, str(tmp_path), str(pid), str(took)]
    kill_when(lambda: has_text(pid), command, environ=environ)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid.read_text()}/cmdline").exists() and time.monotonic() < deadline:
        if not Path(f"/proc/{pid.read_text()}/cmdline").read_bytes():
            break  # ended, and not yet reaped
        time.sleep(0.02)
    assert not took.exists()


@pytest.mark.slow
@pytest.mark.storacha
def test_a_real_service_gets_several_cars_at_a_time(service: StorachaService, tmp_path: Path) -> None:
    root = plant(tmp_path / "real", {"weights.bin": noise(LEAVES * MIB, 6)})
    dag = identify(bare_bundle(root), cache=None)
    with opened(service, upload=service.delegate(), sharding=SHARDING) as space:
        delivery = space.publish(dag, "", QUIET)  # type: ignore[arg-type]
        assert delivery.state is State.HELD
        assert delivery.pieces == shard_pieces(dag, SHARDING)
        assert space.publish(dag, "", QUIET).bytes_sent == 0  # type: ignore[arg-type]
    for shard in shard_pieces(dag, SHARDING).shards:
        assert len(service.blob(shard.cid)) == shard.size
