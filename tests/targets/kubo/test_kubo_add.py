"""Files that a real node makes itself from their bytes, or keeps references to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.content.bundle import bare_bundle, make_bundle
from reconciler.content.cid import RAW
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.scan import scan
from reconciler.errors import SourceChangedError
from reconciler.net.client import HttpClient
from reconciler.net.errors import UnexpectedResponseError
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Observation, State
from reconciler.targets.kubo import publish, send, units
from reconciler.targets.kubo.rpc import is_command_error
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import LABEL, MARK
from tests.support.dags import MemoryDag
from tests.support.fault_proxy import Answer, FaultProxy
from tests.support.kubo_node import SMALL_CACHE, KuboNode, kubo_node
from tests.support.plant import MIB, noise, plant
from tests.targets.kubo.conftest import make_target, opened

pytestmark = pytest.mark.ipfs


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_SMALLEST", 2 * MIB)
    monkeypatch.setattr(send, "_SMALL", MIB)
    monkeypatch.setattr(publish, "_LARGE", MIB)


def seed(salt: str, number: int) -> int:
    return zlib.crc32(f"{salt} {number}".encode())


def two_files(place: Path, salt: str) -> DirectoryDag:
    files = {f"{salt} {number}.bin": noise(3 * MIB + number, seed(salt, number)) for number in (1, 2)}
    plant(place, files | {"config.json": b"{}"})
    return identify(make_bundle(scan(place, include_hidden=False), model="m", version="1.0.0"), cache=None)


def look(target: KuboTarget, dag: DirectoryDag | MemoryDag) -> Observation:
    root = dag.layout.root
    return target.observe([Expected(root, (LABEL,))], Check.FULL, MARK, QUIET).observations[root]


def calls(proxy: FaultProxy, command: str) -> int:
    return sum(path.startswith(f"/api/v0/{command}?") for path in proxy.paths)


def counts(proxy: FaultProxy, dag: DirectoryDag) -> int:
    """Return how often everything under the root was counted, and therefore read."""
    return sum(path.startswith(f"/api/v0/dag/stat?arg={dag.layout.root}&") for path in proxy.paths)


def test_whole_files_are_added_and_nothing_is_read_twice(
    node: KuboNode, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Two files, a CAR with the rest, one pin that reads every block, and no `dag/stat` before it."""
    dag = two_files(tmp_path, "whole")
    target = make_target(proxy.url)
    delivery = target.publish(dag, LABEL, QUIET)
    assert (delivery.state, delivery.blocks_sent) == (State.HELD, len(dag.layout))
    assert (calls(proxy, "add"), counts(proxy, dag), calls(proxy, "pin/add")) == (2, 0, 1)
    assert look(target, dag).state is State.HELD
    assert node.blocks() >= {node.block_file(block.cid).name for block in dag.layout}


def test_a_file_of_which_a_leaf_is_there_goes_into_a_car(
    node: KuboNode, proxy: FaultProxy, tmp_path: Path
) -> None:
    dag = two_files(tmp_path, "partial")
    target = make_target(proxy.url)
    (tmp_path / "leaf").write_bytes(noise(3 * MIB + 1, seed("partial", 1))[:MIB])
    node.run("add", "--raw-leaves", "--cid-version=1", "--chunker=size-1048576", str(tmp_path / "leaf"))
    delivery = target.publish(dag, LABEL, QUIET)
    assert (delivery.state, delivery.blocks_sent) == (State.HELD, len(dag.layout) - 1)
    assert calls(proxy, "add") == 1
    assert look(target, dag).state is State.HELD


@pytest.mark.parametrize("status", [403, 404])
def test_a_node_that_does_not_permit_add_gets_cars(
    node: KuboNode, proxy: FaultProxy, tmp_path: Path, status: int
) -> None:
    dag = two_files(tmp_path, f"denied {status}")
    proxy.arm(Answer(status, body=b"denied"), path="/api/v0/add")
    target = make_target(proxy.url)
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    assert look(target, dag).state is State.HELD


def test_a_node_that_makes_other_blocks_gets_cars(node: KuboNode, proxy: FaultProxy, tmp_path: Path) -> None:
    """Such as an old one that does not know a parameter."""
    dag = two_files(tmp_path, "other")
    other = (
        b'{"Name":"data","Hash":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","Size":"0"}\n'
    )
    proxy.arm(Answer(200, (("Content-Type", "application/json"),), other, carried=True), path="/api/v0/add")
    assert make_target(proxy.url).publish(dag, LABEL, QUIET).state is State.HELD


def test_a_file_that_changes_before_it_is_added_is_named(
    node: KuboNode, kubo: KuboTarget, tmp_path: Path
) -> None:
    dag = two_files(tmp_path, "changing")
    with (tmp_path / "changing 1.bin").open("r+b") as file:
        file.write(b"other")
    with pytest.raises(SourceChangedError, match=r"changing 1\.bin"):
        kubo.publish(dag, LABEL, QUIET)
    assert node.pins() == {}


def test_a_collection_before_the_pin_is_noticed(
    node: KuboNode, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It removes everything without a pin, so a sample is enough; then all is counted and sent again."""
    dag = two_files(tmp_path, "collected")
    real, collected = publish.send, []

    def sending(*arguments: Any, **options: Any) -> send.TransferStats:
        stats = real(*arguments, **options)
        if not collected:
            collected.append(node.call("repo/gc"))
        return stats

    monkeypatch.setattr(publish, "send", sending)
    target = make_target(proxy.url)
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    assert calls(proxy, "pin/add") == 1
    assert counts(proxy, dag) > 0
    assert look(target, dag).state is State.HELD


def test_a_pin_reads_every_leaf(node: KuboNode, kubo: KuboTarget, tmp_path: Path) -> None:
    """Therefore it proves what is not counted before it."""
    dag = two_files(tmp_path, "read")
    send.send(kubo._rpc, dag, range(len(dag.layout)), QUIET, "m@1.0.0")
    leaf = next(block.cid for block in dag.layout if block.cid.codec == RAW and block.size == MIB)
    node.block_file(leaf).unlink()
    assert kubo._rpc.pin_add(dag.layout.root, LABEL, 30) is False
    assert node.pins() == {}


# -- references to files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def referring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
    config = {**SMALL_CACHE, "Experimental.FilestoreEnabled": True}
    with kubo_node(tmp_path_factory.mktemp("referring"), config=config) as node:
        yield node


def referring_target(node: KuboNode) -> KuboTarget:
    http = HttpClient(node.url, name="node", is_command_error=is_command_error)
    return opened(KuboTarget("node", http, pin_seconds=30, nocopy=True))


def test_a_node_keeps_references_to_the_files(referring: KuboNode) -> None:
    """The leaves of several blocks have no file of their own; names of any kind are found again."""
    place = referring.home / "weights" / "a b+c%20ä"
    dag = two_files(place, "kept")
    target = referring_target(referring)
    delivery = target.publish(dag, LABEL, QUIET)
    assert (delivery.state, delivery.blocks_sent) == (State.HELD, len(dag.layout))
    assert look(target, dag).state is State.HELD
    leaves = [block.cid for block in dag.layout if block.cid.codec == RAW and block.size == MIB]
    assert not any(referring.block_file(leaf).exists() for leaf in leaves)
    assert str(place.relative_to(referring.home)) in referring.run("filestore", "ls")


@pytest.mark.parametrize("change", ["moved", "changed"])
def test_a_referenced_file_that_is_lost_is_damage_that_a_repair_copies(
    referring: KuboNode, tmp_path: Path, change: str
) -> None:
    place = referring.home / "weights" / change
    dag = two_files(place, change)
    target = referring_target(referring)
    target.publish(dag, LABEL, QUIET)
    donor = MemoryDag(dag.layout.root, {each.cid: dag.read(at) for at, each in enumerate(dag.layout)})
    file = place / f"{change} 1.bin"
    if change == "moved":
        file.rename(tmp_path / "elsewhere.bin")
    else:
        with file.open("r+b") as writing:
            writing.write(b"other")
    seen = look(target, dag)
    assert seen.state is State.PARTIAL
    assert len(seen.damaged) == (3 if change == "moved" else 1)
    assert target.repair(donor, seen.damaged, LABEL, QUIET).state is State.HELD
    assert look(target, dag).state is State.HELD


def test_a_file_outside_the_directory_of_the_repository_is_refused(
    referring: KuboNode, tmp_path: Path
) -> None:
    target = referring_target(referring)
    with pytest.raises(UnexpectedResponseError, match="below the directory of its repository") as caught:
        target.publish(two_files(tmp_path, "outside"), LABEL, QUIET)
    assert repr(str(referring.home)) in (caught.value.hint or "")


def test_a_node_without_a_filestore_is_named(node: KuboNode, tmp_path: Path) -> None:
    with pytest.raises(UnexpectedResponseError, match="does not keep references") as caught:
        referring_target(node).publish(two_files(tmp_path, "disabled"), LABEL, QUIET)
    assert "Experimental.FilestoreEnabled" in (caught.value.hint or "")


def test_a_single_file_and_small_ones_are_copied(referring: KuboNode) -> None:
    file = plant(referring.home / "small", {"one.bin": noise(MIB, 77)}) / "one.bin"
    dag = identify(bare_bundle(file), cache=None)
    target = referring_target(referring)
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    assert referring.block_file(dag.layout.root).exists()
