"""Blocks that are sent to a cluster in several streams: leaves without a pin, then the rest with it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from reconciler.content.dag import Dag
from reconciler.index.label import Label
from reconciler.net.errors import UnexpectedResponseError
from reconciler.progress import QUIET
from reconciler.targets import upload_streams
from reconciler.targets.interface import State
from reconciler.targets.ipfs_cluster import send
from tests.support.fake_cluster import FakeCluster, fake_cluster
from tests.support.fault_proxy import Answer, Cut, FaultProxy
from tests.support.shapes import Builder
from tests.targets.ipfs_cluster.targets import cluster_target

LABEL = Label("reconciler/suite/m@1.0.0")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "_SMALL", dict.fromkeys((True, False), 0))
    monkeypatch.setattr(upload_streams, "LARGEST_JOB", 2 * MIB)


@pytest.fixture
def dag() -> Dag:
    build = Builder("streams")
    return build.dag(build.file("weights", 7, MIB))


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as fake:
        yield fake


def adds(fake: FakeCluster) -> list[dict[str, list[str]]]:
    """Return the queries of all `/add` so far."""
    asked = [urlsplit(each.target) for each in fake.asked if each.method == "POST"]
    return [parse_qs(each.query) for each in asked if each.path == "/add"]


def test_only_the_last_car_pins(cluster: FakeCluster, dag: Dag) -> None:
    target = cluster_target(cluster.url)
    delivery = target.publish(dag, LABEL, QUIET)
    target.close()
    *leaves, last = adds(cluster)
    assert len(leaves) == 4
    assert all(query["no-pin"] == ["true"] and "name" not in query for query in leaves)
    assert (last["name"], "no-pin" in last) == ([LABEL], False)
    assert (delivery.state, delivery.bytes_sent) == (State.HELD, dag.layout.size)
    assert set(cluster.blocks) == {block.cid for block in dag.layout}


def test_a_car_that_loses_a_block_ends_it_and_nothing_is_pinned(cluster: FakeCluster, dag: Dag) -> None:
    cluster.add_loses = 1
    target = cluster_target(cluster.url)
    with pytest.raises(UnexpectedResponseError, match="accepted"):
        target.publish(dag, LABEL, QUIET)
    target.close()
    assert cluster.entries == {}
    assert all("no-pin" in query for query in adds(cluster))


@pytest.mark.parametrize(
    "fault", [Answer(502), Answer(429, (("Retry-After", "0"),)), Cut(0.0, reset=True)], ids=str
)
def test_a_stream_that_breaks_is_sent_again(
    cluster: FakeCluster, behind_proxy: FaultProxy, dag: Dag, fault: Answer | Cut
) -> None:
    behind_proxy.port = int(cluster.url.rsplit(":", 1)[1])
    behind_proxy.arm(fault, path="/add", times=2)
    target = cluster_target(behind_proxy.url, attempts=4)
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    target.close()
    assert behind_proxy.hits == 2
    assert set(cluster.blocks) == {block.cid for block in dag.layout}
