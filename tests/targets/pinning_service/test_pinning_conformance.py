"""The suite of all targets, against the fake service and the pinning service port of ipfs-cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from urllib.parse import quote

import pytest

from reconciler.content import car
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.net.client import HttpClient
from reconciler.net.response import UploadBody
from reconciler.targets.ipfs_cluster.rest import ClusterRest
from tests.conformance.targets import Damage, TargetSuite
from tests.support.fake_pinning_service import FakePinningService
from tests.support.fault_proxy import FaultProxy
from tests.support.peers_cluster import ClusterPeer, call, is_pinned
from tests.support.waiting import wait_until
from tests.targets.pinning_service.targets import service_target


class _Subject:
    """A service behind a proxy that can make it unreachable."""

    def __init__(self, url: str, proxy: FaultProxy) -> None:
        self.proxy = proxy
        proxy.port = int(url.rsplit(":", 1)[1])
        self.target = service_target(proxy.url, poll=5.0)

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        raise AssertionError("a service serves no blocks, so none can be damaged")

    def make_unreachable(self) -> None:
        self.proxy.down()


class FakeSubject(_Subject):
    def __init__(self, fake: FakePinningService, proxy: FaultProxy) -> None:
        super().__init__(fake.url, proxy)
        self.fake = fake

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        self.serve(dag)
        self.fake.add(str(dag.layout.root), label, app="somebody else's")

    def serve(self, dag: Dag) -> Sequence[str]:
        self.fake.reachable.add(str(dag.layout.root))
        return ["/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWDonor"]

    def snapshot(self) -> object:
        return json.dumps(self.fake.pins, sort_keys=True)


class ClusterPortSubject(_Subject):
    def __init__(self, peer: ClusterPeer, proxy: FaultProxy) -> None:
        super().__init__(peer.psa, proxy)
        self.peer = peer

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        self.serve(dag)
        status, _ = call(f"{self.peer.rest}/pins/{dag.layout.root}?name={quote(label)}", method="POST")
        assert status == 200
        wait_until("the pin", lambda: is_pinned(self.peer.rest, dag.layout.root))

    def serve(self, dag: Dag) -> Sequence[str]:
        """Add the blocks to the Kubo node of the peer, unpinned."""
        http = HttpClient(self.peer.rest, name="donor")
        added = ClusterRest(http).add(UploadBody(dag.layout.car_size, lambda: car.stream(dag)), None)
        assert added.size == dag.layout.size
        http.close()
        return ()

    def snapshot(self) -> object:
        _, pins = call(f"{self.peer.rest}/allocations")
        return sorted(pins.splitlines())


class BlindSuite(TargetSuite):
    """A service serves no blocks, so damage cannot be observed."""

    test_damage_is_seen_repaired_and_then_gone = None  # type: ignore[assignment]
    test_a_repair_without_the_lost_block_is_not_called_held = None  # type: ignore[assignment]
    test_repairing_one_root_leaves_its_sibling_alone = None  # type: ignore[assignment]


class TestFakeService(BlindSuite):
    @pytest.fixture
    def subject(self, behind_proxy: FaultProxy, fake: FakePinningService) -> Iterator[FakeSubject]:
        subject = FakeSubject(fake, behind_proxy)
        yield subject
        subject.target.close()


@pytest.mark.ipfs_cluster
class TestClusterPort(BlindSuite):
    @pytest.fixture
    def subject(self, behind_proxy: FaultProxy, one_peer: ClusterPeer) -> Iterator[ClusterPortSubject]:
        subject = ClusterPortSubject(one_peer, behind_proxy)
        yield subject
        subject.target.close()
