"""The conformance suite of targets on an IPFS Cluster, fake and real."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import ClassVar

import pytest

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET
from reconciler.targets.interface import Check
from reconciler.targets.kubo.rpc import is_command_error as is_kubo_command_error
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import Damage, TargetSuite
from tests.support.fake_cluster import FakeCluster, fake_cluster
from tests.support.fault_proxy import FaultProxy
from tests.support.peers_cluster import ClusterPeer, call, is_pinned
from tests.support.shapes import bundle
from tests.support.waiting import wait_until
from tests.targets.ipfs_cluster.targets import cluster_target


class ClusterSubject:
    """A cluster behind a proxy that can make it unreachable."""

    def __init__(self, url: str, proxy: FaultProxy) -> None:
        self.url, self.proxy = url, proxy
        self.target = cluster_target(proxy.url)

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        raise AssertionError("a cluster without nodes cannot see any damage")

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        theirs = cluster_target(self.url)
        theirs.publish(dag, Label("reconciler/stranger/a@1.0.0"), QUIET)
        # There is one pin for a CID, and all of its options are replaced.
        status, _ = call(f"{self.url}/pins/{dag.layout.root}?name={label.replace(' ', '%20')}", method="POST")
        assert status == 200
        theirs.close()
        wait_until("the pin", lambda: is_pinned(self.url, dag.layout.root))

    def serve(self, dag: Dag) -> Sequence[str]:
        raise AssertionError("a cluster is given bytes")

    def snapshot(self) -> object:
        _, pins = call(f"{self.url}/allocations")
        return sorted(pins.splitlines())

    def make_unreachable(self) -> None:
        self.proxy.down()


def subject_at(url: str, proxy: FaultProxy) -> Iterator[ClusterSubject]:
    proxy.port = int(url.rsplit(":", 1)[1])
    subject = ClusterSubject(url, proxy)
    yield subject
    subject.target.close()


class WithoutNodes(TargetSuite):
    """A cluster without nodes does not detect damage."""

    test_damage_is_seen_repaired_and_then_gone = None  # type: ignore[assignment]
    test_a_repair_without_the_lost_block_is_not_called_held = None  # type: ignore[assignment]
    test_repairing_one_root_leaves_its_sibling_alone = None  # type: ignore[assignment]


class TestFakeCluster(WithoutNodes):
    @pytest.fixture
    def subject(self, behind_proxy: FaultProxy) -> Iterator[ClusterSubject]:
        with fake_cluster() as fake:
            yield from subject_at(fake.url, behind_proxy)


@pytest.mark.slow
@pytest.mark.ipfs_cluster
class TestRealCluster(WithoutNodes):
    """Slow because the fake has the same suite, and the cluster has a larger one below."""

    @pytest.fixture
    def subject(self, behind_proxy: FaultProxy, one_peer: ClusterPeer) -> Iterator[ClusterSubject]:
        yield from subject_at(one_peer.rest, behind_proxy)


class NodesSubject(ClusterSubject):
    """A cluster of one peer whose Kubo is observed as well; damage is done to Kubo's block files."""

    def __init__(self, peer: ClusterPeer, proxy: FaultProxy) -> None:
        super().__init__(peer.rest, proxy)
        self.node = peer.node
        http = HttpClient(peer.node.url, name="node1", retry=NO_RETRY, is_command_error=is_kubo_command_error)
        self.target = cluster_target(proxy.url, KuboTarget("node1", http, random=Random(7)))

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        assert kind is Damage.LOST_LEAF
        self.node.block_file(cid).unlink()

    def snapshot(self) -> object:
        return super().snapshot(), self.node.pins(), self.node.blocks()


@pytest.mark.ipfs_cluster
class TestRealClusterWithNodes(TargetSuite):
    """One kind of damage is enough: the suite of the Kubo target covers the others."""

    seen_at: ClassVar = {Damage.LOST_LEAF: Check.SAMPLE}

    @pytest.fixture
    def subject(self, behind_proxy: FaultProxy, one_peer: ClusterPeer) -> Iterator[NodesSubject]:
        behind_proxy.port = int(one_peer.rest.rsplit(":", 1)[1])
        subject = NodesSubject(one_peer, behind_proxy)
        yield subject
        subject.target.close()


class TestTheFakeAnswersAsTheRealOne:
    """Answers on which our code relies, from the fake and from a real cluster."""

    @pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.ipfs_cluster)])
    def url(self, request: pytest.FixtureRequest) -> Iterator[str]:
        if request.param == "real":
            yield request.getfixturevalue("one_peer").rest
            return
        with fake_cluster() as fake:
            yield fake.url

    NOBODYS = "bafkreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

    def test_a_cid_without_a_pin(self, url: str) -> None:
        status, body = call(f"{url}/pins/{self.NOBODYS}")
        states = {one["status"] for one in json.loads(body)["peer_map"].values()}
        assert (status, states) == (200, {"unpinned"})
        status, body = call(f"{url}/allocations/{self.NOBODYS}")
        assert (status, json.loads(body)["message"]) == (404, "pin is not part of the pinset")
        assert call(f"{url}/pins/{self.NOBODYS}", method="DELETE")[0] == 404

    def test_a_malformed_cid(self, url: str) -> None:
        for path in ("pins/xyz", "allocations/xyz"):
            status, body = call(f"{url}/{path}")
            assert status == 400
            assert "error decoding Cid" in json.loads(body)["message"]

    def test_more_copies_than_peers(self, url: str) -> None:
        query = "replication-min=9&replication-max=9"
        status, body = call(f"{url}/pins/{self.NOBODYS}?{query}", method="POST")
        assert status == 500
        assert json.loads(body)["message"].startswith("not enough peers to allocate CID")

    def test_a_second_pin_replaces_all_options_of_the_first(self, url: str) -> None:
        pin = f"{url}/pins/{self.NOBODYS}"
        try:
            call(f"{pin}?name=one&meta-reconciler=1&replication-min=1&replication-max=1", method="POST")
            _, body = call(f"{pin}?name=two", method="POST")
            entry = json.loads(body)
            assert (entry["name"], entry["metadata"], entry["replication_factor_min"]) == ("two", {}, -1)
        finally:
            assert call(pin, method="DELETE")[0] == 200


def test_the_fake_can_be_broken(behind_proxy: FaultProxy) -> None:
    """An `/add` that loses a block answers 200 with too few bytes, as a real cluster does."""
    with fake_cluster() as fake:
        assert isinstance(fake, FakeCluster)
        fake.add_loses = 1
        dag = bundle("broken")
        target = cluster_target(fake.url)
        with pytest.raises(Exception, match="accepted"):
            target.publish(dag, Label("reconciler/suite/m@1.0.0"), QUIET)
        target.close()
        assert fake.entries == {}
