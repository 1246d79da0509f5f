"""Pins of the cluster target on the fake: ownership, repair, expiry, fetching, and messages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import PeerError, SafetyError
from reconciler.index.label import Label
from reconciler.net.errors import RejectedError, UnexpectedResponseError
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Inventory, Observation, Pin, State
from reconciler.targets.ipfs_cluster.judge import ReplicationRules
from reconciler.targets.ipfs_cluster.target import ClusterTarget, WaitLimits
from tests.support.fake_cluster import FakeCluster, FakePeer, fake_cluster
from tests.support.shapes import bundle, large_file
from tests.targets.ipfs_cluster.targets import cluster_target

MARK = "reconciler/i/"
LABEL = Label(f"{MARK}m@1.0.0")
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with fake_cluster("peer1", "peer2", "peer3") as running:
        yield running


@pytest.fixture
def target(fake: FakeCluster) -> Iterator[ClusterTarget]:
    made = cluster_target(fake.url)
    yield made
    made.close()


def look(target: ClusterTarget, root: Cid) -> tuple[Observation, Inventory]:
    inventory = target.observe([Expected(root, (LABEL,))], Check.QUICK, MARK, QUIET)
    return inventory.observations[root], inventory


def published(target: ClusterTarget, salt: str = "") -> Dag:
    dag = bundle(salt)
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    return dag


class TestObserving:
    def test_four_calls_whatever_the_number_of_roots(self, fake: FakeCluster, target: ClusterTarget) -> None:
        for number in range(5):
            target.publish(bundle(str(number)), Label(f"{MARK}m@1.0.{number}"), QUIET)
        fake.asked.clear()
        expected = [Expected(bundle(str(number)).layout.root, (LABEL,)) for number in range(9)]
        for check in Check:
            fake.asked.clear()
            target.observe(expected, check, MARK, QUIET)
            assert fake.calls() == ["GET /allocations", "GET /pins", "GET /peers", "GET /health/alerts"]

    def test_without_nodes_a_note_says_that_blocks_are_not_checked(self, target: ClusterTarget) -> None:
        seen, inventory = look(target, published(target).layout.root)
        assert "no block was checked" in seen.checked
        assert any("blocks are not checked" in note for note in inventory.notes)

    def test_a_peer_whose_kubo_is_down_is_named(self, fake: FakeCluster, target: ClusterTarget) -> None:
        root = published(target).layout.root
        fake.peers[1].ipfs_error = "dial tcp 127.0.0.1:5001: connection refused"
        seen, inventory = look(target, root)
        assert seen.state is State.PARTIAL
        assert "peer2 does not answer: dial tcp" in seen.detail
        assert any(note.startswith("the Kubo behind peer2 does not answer") for note in inventory.notes)

    def test_a_peer_that_is_gone_is_named(self, fake: FakeCluster) -> None:
        target = cluster_target(fake.url, rules=ReplicationRules(factor_min=2, factor_max=2))
        root = published(target).layout.root
        fake.peers[0].alive = False
        seen, inventory = look(target, root)
        assert seen.state is State.PARTIAL
        assert "peer1 is gone from the cluster" in seen.detail
        assert any(note.startswith("peer1 is gone from the cluster") for note in inventory.notes)
        target.close()

    @pytest.mark.parametrize("lost", ["allocations", "pins"])
    def test_a_truncated_list_makes_roots_unknown(
        self, fake: FakeCluster, target: ClusterTarget, lost: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error that truncates a list is in a trailer, which clients ignore."""
        root = published(target).layout.root
        rest = target._rest
        if lost == "allocations":
            monkeypatch.setattr(rest, "entries", dict)
        else:
            now = rest.statuses().now
            empty = type(rest.statuses())({}, now)
            monkeypatch.setattr(rest, "statuses", lambda: empty)
        seen, _ = look(target, root)
        assert seen.state is State.UNKNOWN
        assert "contradict" in seen.detail


class TestOwnership:
    def foreign(self, fake: FakeCluster, dag: Dag, *, whole: bool = True) -> str:
        """Make a foreign pin of `dag`; return the entry that must not change."""
        root = str(dag.layout.root)
        fake._pin(root, {"name": "theirs", "meta-team": "x", "replication-min": "1", "replication-max": "1"})
        blocks = [dag.layout.cid(position) for position in range(len(dag.layout))]
        kept = blocks if whole else blocks[:-1]
        fake.blocks |= {cid: dag.read(position) for position, cid in enumerate(kept)}
        return repr(fake.entries[root])

    def test_a_foreign_pin_is_held_and_untouched(self, fake: FakeCluster, target: ClusterTarget) -> None:
        dag = bundle("")
        entry = self.foreign(fake, dag)
        delivery = target.publish(dag, LABEL, QUIET)
        assert (delivery.state, delivery.bytes_sent) == (State.HELD, 0)
        assert "not ours" in delivery.detail
        target.unpin(dag.layout.root, LABEL)
        with pytest.raises(SafetyError):
            target.relabel(dag.layout.root, LABEL)
        assert target.pin(dag.layout.root, LABEL, ()).state is State.HELD
        assert repr(fake.entries[str(dag.layout.root)]) == entry

    def test_blocks_under_a_foreign_pin_are_completed_without_touching_it(
        self, fake: FakeCluster, target: ClusterTarget
    ) -> None:
        dag = bundle("")
        entry = self.foreign(fake, dag, whole=False)
        fake.overrides[str(dag.layout.root), "peer1"] = ("pinning", LONG_AGO)
        delivery = target.publish(dag, LABEL, QUIET)
        assert delivery.bytes_sent == dag.layout.size
        assert all(block.cid in fake.blocks for block in dag.layout)
        assert repr(fake.entries[str(dag.layout.root)]) == entry
        assert not any(call.startswith("DELETE") for call in fake.calls())

    def test_adopting_replaces_a_foreign_label(self, fake: FakeCluster, target: ClusterTarget) -> None:
        dag = bundle("")
        self.foreign(fake, dag)
        with pytest.raises(PeerError, match="no longer pinned as 'another'"):
            target.adopt(Pin(dag.layout.root, "another"), LABEL)
        target.adopt(Pin(dag.layout.root, "theirs"), LABEL)
        seen, inventory = look(target, dag.layout.root)
        assert seen.labels == (LABEL,)
        assert inventory.owned == (Pin(dag.layout.root, LABEL),)
        assert fake.entries[str(dag.layout.root)]["replication_factor_max"] == 1

    def test_a_renamed_pin_keeps_its_copies_and_its_mark(self, fake: FakeCluster) -> None:
        """A second POST replaces all options; those that are not sent again are lost."""
        target = cluster_target(fake.url, rules=ReplicationRules(factor_min=2, factor_max=2))
        dag = published(target)
        target.close()
        plain = cluster_target(fake.url)  # without configured replication
        plain.relabel(dag.layout.root, Label(f"{MARK}m@1.0.1"))
        plain.close()
        entry = fake.entries[str(dag.layout.root)]
        assert (entry["replication_factor_min"], entry["replication_factor_max"]) == (2, 2)
        metadata = {"reconciler": "1", "index": "i", "label": f"{MARK}m@1.0.1"}
        assert (entry["name"], entry["metadata"]) == (f"{MARK}m@1.0.1", metadata)


class TestRepair:
    def test_a_lost_pin_is_recovered_without_bytes(self, fake: FakeCluster, target: ClusterTarget) -> None:
        dag = published(target)
        fake.overrides[str(dag.layout.root), "peer2"] = ("unexpectedly_unpinned", LONG_AGO)
        seen, _ = look(target, dag.layout.root)
        assert seen.state is State.PARTIAL
        assert "peer2 reports unexpectedly_unpinned: made unexpectedly_unpinned by a test" in seen.detail
        delivery = target.repair(dag, (), LABEL, QUIET)
        assert (delivery.state, delivery.bytes_sent) == (State.HELD, 0)

    def test_a_stuck_pin_is_released_and_added_again(self, fake: FakeCluster, target: ClusterTarget) -> None:
        dag = published(target)
        root = str(dag.layout.root)
        fake.overrides[root, "peer1"] = ("pinning", LONG_AGO)
        fake.asked.clear()
        delivery = target.repair(dag, (), LABEL, QUIET)
        assert (delivery.state, delivery.bytes_sent) == (State.HELD, dag.layout.size)
        calls = fake.calls()
        assert calls.index(f"DELETE /pins/{root}") < calls.index("POST /add")
        assert fake.entries[root]["name"] == LABEL

    def test_publishing_waits_for_a_pending_pin(self, fake: FakeCluster) -> None:
        target = cluster_target(fake.url, limits=WaitLimits(pending=0.2, bad=0.1, pause=0.02))
        dag = published(target)
        fake.overrides[str(dag.layout.root), "peer1"] = ("pinning", datetime.now(UTC))
        seen, _ = look(target, dag.layout.root)
        assert seen.state is State.PENDING
        fake.asked.clear()
        assert target.publish(dag, LABEL, QUIET).state is State.PENDING
        assert {call.split()[0] for call in fake.calls()} == {"GET"}
        target.close()

    def test_a_peer_that_is_gone_is_replaced(self, fake: FakeCluster) -> None:
        target = cluster_target(fake.url, rules=ReplicationRules(factor_min=2, factor_max=2))
        dag = published(target)
        fake.peers[0].alive = False
        delivery = target.repair(dag, (), LABEL, QUIET)
        assert (delivery.state, delivery.bytes_sent) == (State.HELD, 0)
        assert fake.entries[str(dag.layout.root)]["allocations"] == [fake.peers[1].id, fake.peers[2].id]
        target.close()

    def test_too_few_peers_is_an_error_with_a_hint_without_retries(self, fake: FakeCluster) -> None:
        target = cluster_target(fake.url, attempts=4, rules=ReplicationRules(factor_min=5, factor_max=5))
        with pytest.raises(RejectedError, match="to the requested number of peers") as caught:
            target.publish(bundle(""), LABEL, QUIET)
        assert "lower replication" in (caught.value.hint or "")
        assert fake.calls().count("POST /add") == 2  # the empty block, and the rest
        assert fake.entries == {}
        target.close()

    def test_an_upload_that_lost_bytes_ends_without_a_pin(
        self, fake: FakeCluster, target: ClusterTarget
    ) -> None:
        fake.add_loses = 2
        with pytest.raises(UnexpectedResponseError, match="accepted"):
            target.publish(bundle(""), LABEL, QUIET)
        assert fake.entries == {}

    def test_a_failing_peer_does_not_cause_an_upload(self, fake: FakeCluster) -> None:
        """Sending bytes helps a peer that lost its pin, not one whose Kubo is down."""
        target = cluster_target(fake.url, limits=WaitLimits(pending=0.2, bad=0.1, pause=0.02))
        dag = published(target)
        fake.peers[2].ipfs_error = "connection refused"
        delivery = target.repair(dag, (), LABEL, QUIET)
        assert (delivery.state, delivery.bytes_sent) == (State.PARTIAL, 0)
        assert "peer3 does not answer" in delivery.detail
        target.close()


class TestEmptyFiles:
    """Bitswap does not transfer the empty block, so it is added to every peer through the cluster."""

    def test_the_empty_block_is_added_to_every_peer_before_the_pin(
        self, fake: FakeCluster, target: ClusterTarget
    ) -> None:
        published(target)
        first, second = [one for one in fake.asked if one.method == "POST"]
        assert "local=false" in first.target
        assert "no-pin=true" in first.target
        assert len(first.body) < 500
        assert "local=true" in second.target

    def test_without_an_empty_file_only_the_car_is_added(
        self, fake: FakeCluster, target: ClusterTarget
    ) -> None:
        target.publish(large_file(""), LABEL, QUIET)
        assert fake.calls().count("POST /add") == 1


class TestExpiry:
    def test_the_expiry_is_set_shown_and_renewed_without_bytes(self, fake: FakeCluster) -> None:
        rules = ReplicationRules(expire_seconds=720 * 3600)
        target = cluster_target(fake.url, rules=rules, expire_in="720h")
        dag = published(target)
        root = dag.layout.root
        seen, _ = look(target, root)
        assert seen.state is State.HELD
        assert seen.detail.startswith("expires ")
        fake.entries[str(root)]["expire_at"] = (datetime.now(UTC) + timedelta(hours=300)).isoformat()
        seen, _ = look(target, root)
        assert (seen.state, "to be renewed" in seen.detail) == (State.PARTIAL, True)
        assert target.pin(root, LABEL, ()).state is State.HELD
        seen, _ = look(target, root)
        assert seen.state is State.HELD
        target.close()


class TestFetching:
    def test_no_source_to_fetch_from_is_an_error_without_a_pin(
        self, fake: FakeCluster, target: ClusterTarget
    ) -> None:
        with pytest.raises(PeerError, match="no source to fetch"):
            target.pin(bundle("").layout.root, LABEL, ())
        assert fake.entries == {}

    def test_origins_are_passed_on(self, fake: FakeCluster, target: ClusterTarget) -> None:
        dag = bundle("")
        fake.blocks = {block.cid: dag.read(position) for position, block in enumerate(dag.layout)}
        origin = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWDonor"
        assert target.pin(dag.layout.root, LABEL, (origin,)).state is State.HELD
        assert any("origins=%2Fip4" in one.target for one in fake.asked)

    def test_a_stuck_fetch_without_any_holder_is_released(
        self, fake: FakeCluster, target: ClusterTarget
    ) -> None:
        root = str(bundle("").layout.root)
        fake._pin(root, {"name": LABEL, "meta-reconciler": "1", "meta-label": LABEL})
        for peer in fake.peers:
            fake.overrides[root, peer.name] = ("pinning", LONG_AGO)
        with pytest.raises(PeerError, match="no source to fetch"):
            target.pin(bundle("").layout.root, LABEL, ())
        assert fake.entries == {}


class TestDoctor:
    def test_a_healthy_cluster(self, target: ClusterTarget) -> None:
        findings = {one.subject: one for one in target.diagnose()}
        assert findings["API"].ok
        assert findings["peers"].text == "3 with Kubo each: peer1, peer2, peer3"
        assert findings["clock"].ok
        assert not findings["nodes"].ok

    def test_failing_peers_are_named_with_hints(self, fake: FakeCluster, target: ClusterTarget) -> None:
        fake.peers[1].ipfs_error = "connection refused"
        fake.peers[2].alive = False
        findings = {one.subject: one for one in target.diagnose()}
        assert findings["peer peer2"].hint == "start the Kubo behind peer2"
        assert findings["peer peer3"].hint == "start peer3 again"

    def test_a_cluster_that_is_down(self) -> None:
        target = cluster_target("http://127.0.0.1:9")
        (finding,) = target.diagnose()
        assert not finding.ok
        assert "cannot be reached" in finding.text
        target.close()


def test_origins_are_those_of_the_kubos(fake: FakeCluster, target: ClusterTarget) -> None:
    fake.peers.append(FakePeer("peer4"))
    assert len(target.origins()) == 4
