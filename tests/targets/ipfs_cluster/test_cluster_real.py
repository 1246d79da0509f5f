"""Behaviour of real daemons: hanging and lost pins, damaged blocks, and dead peers."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from reconciler.content import car
from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import BlockUnavailableError, Where
from reconciler.index.label import Label
from reconciler.index.model import TargetSpec
from reconciler.net.client import HttpClient
from reconciler.net.errors import AccessDeniedError
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Inventory, Observation, State, Target
from reconciler.targets.ipfs_cluster.judge import ReplicationRules
from reconciler.targets.ipfs_cluster.target import ClusterTarget
from reconciler.targets.kubo.rpc import is_command_error
from reconciler.targets.kubo.target import KuboTarget
from reconciler.targets.open import open_target
from tests.support.peers_cluster import ClusterPeer, call, cluster, missing_programs
from tests.support.shapes import Builder, Without, bundle
from tests.support.waiting import wait_until
from tests.targets.ipfs_cluster.targets import cluster_target

pytestmark = pytest.mark.ipfs_cluster

MARK = "reconciler/real/"
LABEL = Label(f"{MARK}m@1.0.0")


def node_of(peer: ClusterPeer) -> KuboTarget:
    http = HttpClient(
        peer.node.url, name=f"kubo of {peer.name}", retry=NO_RETRY, is_command_error=is_command_error
    )
    return KuboTarget(f"kubo of {peer.name}", http, random=Random(7))


def configured(peer: ClusterPeer) -> Target:
    """Return the cluster with its node, opened from an entry of targets.yaml."""
    options = {"api": peer.rest, "nodes": [{"api": peer.node.url}]}
    spec = TargetSpec("c", "ipfs-cluster", options, Where("t"))
    return open_target(spec, root=Path(), environ={})


def look(target: Target, root: Cid, check: Check = Check.QUICK) -> tuple[Observation, Inventory]:
    inventory = target.observe([Expected(root, (LABEL,))], check, MARK, QUIET)
    return inventory.observations[root], inventory


def state(target: ClusterTarget, root: Cid) -> State:
    return look(target, root)[0].state


def leaves(dag: Dag) -> list[Cid]:
    return [block.cid for number, block in enumerate(dag.layout) if dag.layout.is_leaf(number) and block.size]


def add_by_hand(peer: ClusterPeer, body: bytes, query: str) -> None:
    """Call `/add` with any bytes, as another client of the cluster could."""
    boundary = "0123456789"
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x.car"\r\n\r\n'.encode()
    request = urllib.request.Request(
        f"{peer.rest}/add?format=car&local=true&stream-channels=false&{query}",
        data=part + body + f"\r\n--{boundary}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


def test_a_pin_over_an_incomplete_dag_hangs_and_is_released(one_peer: ClusterPeer) -> None:
    """The cluster accepts a CAR without one block, and then waits for that block forever."""
    dag = bundle(f"stuck {os.getpid()}")
    short = b"".join(car.stream_partial(dag, range(len(dag.layout) - 1)))
    add_by_hand(one_peer, short, f"name={LABEL}&meta-reconciler=1&meta-label={LABEL}")
    with closing(cluster_target(one_peer.rest)) as patient:
        assert state(patient, dag.layout.root) is State.PENDING
    with closing(
        cluster_target(one_peer.rest, rules=ReplicationRules(stuck_after=timedelta(seconds=1)))
    ) as target:
        wait_until("it to be stuck", lambda: state(target, dag.layout.root) is State.PARTIAL)
        assert "peer1 is stuck fetching it" in look(target, dag.layout.root)[0].detail
        delivery = target.repair(dag, (), LABEL, QUIET)
        assert (delivery.state, delivery.bytes_sent) == (State.HELD, dag.layout.size)
        target.unpin(dag.layout.root, LABEL)


def test_a_pin_removed_behind_the_clusters_back_is_recovered(one_peer: ClusterPeer) -> None:
    dag = bundle(f"lost pin {os.getpid()}")
    root = dag.layout.root
    with closing(cluster_target(one_peer.rest)) as target:
        target.publish(dag, LABEL, QUIET)
        one_peer.node.run("pin", "rm", str(root))
        seen, _ = look(target, root)
        assert seen.state is State.PARTIAL
        assert "peer1 reports unexpectedly_unpinned" in seen.detail
        delivery = target.repair(dag, (), LABEL, QUIET)
        assert (delivery.state, delivery.bytes_sent) == (State.HELD, 0)
        assert str(root) in one_peer.node.pins()
        target.unpin(root, LABEL)


@pytest.mark.parametrize("owner", [LABEL, Label("reconciler/others/m@1.0.0")], ids=["ours", "foreign"])
def test_damage_is_detected_through_the_node_and_replaced_under_any_pin(
    one_peer: ClusterPeer, owner: Label
) -> None:
    """The pin on the node has the name that the cluster gave it, before and after the repair."""
    dag = bundle(f"rot {os.getpid()} {owner}")
    root, leaf = dag.layout.root, leaves(dag)[5]
    with closing(cluster_target(one_peer.rest)) as blind, closing(configured(one_peer)) as target:
        target.publish(dag, owner, QUIET)
        pins = one_peer.node.pins()
        rot(one_peer, leaf)
        assert look(blind, root, Check.FULL)[0].state is State.HELD
        seen, _ = look(target, root, Check.FULL)
        assert (seen.state, seen.damaged) == (State.PARTIAL, (leaf,))
        delivery = target.repair(dag, (leaf,), LABEL, QUIET)
        assert (delivery.state, delivery.blocks_sent) == (State.HELD, 1)
        assert look(target, root, Check.FULL)[0].state is State.HELD
        assert one_peer.node.pins() == pins
        target.unpin(root, owner)


def test_a_publish_replaces_what_was_damaged_on_the_node_before(one_peer: ClusterPeer) -> None:
    """The block came from somebody's `ipfs add`; the cluster would pin it as it is."""
    dag = bundle(f"rot before {os.getpid()}")
    root, leaf = dag.layout.root, leaves(dag)[5]
    path = one_peer.node.home / "one.car"
    path.write_bytes(b"".join(car.stream_partial(dag, [dag.layout.find(leaf) or 0])))
    one_peer.node.run("dag", "import", "--pin-roots=false", str(path))
    rot(one_peer, leaf)
    with closing(configured(one_peer)) as target:
        assert target.publish(dag, LABEL, QUIET).state is State.HELD
        assert look(target, root, Check.FULL)[0].state is State.HELD
        target.unpin(root, LABEL)


def rot(peer: ClusterPeer, leaf: Cid) -> None:
    file = peer.node.block_file(leaf)
    file.chmod(0o644)
    file.write_bytes(b"rotten".ljust(file.stat().st_size, b"!"))


def test_a_truncated_upload_leaves_no_pin(one_peer: ClusterPeer) -> None:
    dag = bundle(f"cut {os.getpid()}")
    with closing(cluster_target(one_peer.rest)) as target:
        with pytest.raises(Exception, match="is lost"):
            target.publish(Without(dag, [len(dag.layout) - 1]), LABEL, QUIET)
        assert state(target, dag.layout.root) is State.ABSENT


def test_an_interrupted_publish_sends_only_the_rest(one_peer: ClusterPeer) -> None:
    """The Kubo behind the peer keeps the blocks that arrived, and they are not sent again."""
    build = Builder(f"resumed {os.getpid()}")
    dag = build.dag(build.file("weights", 40, 1 << 20))
    with closing(cluster_target(one_peer.rest, node_of(one_peer))) as target:
        with pytest.raises(BlockUnavailableError):
            target.publish(Without(dag, [30]), LABEL, QUIET)
        assert state(target, dag.layout.root) is State.ABSENT
        wait_until("what came before the cut to be stored", lambda: blocks_there(one_peer, dag) > 0, 10)
        there = blocks_there(one_peer, dag)
        delivery = target.publish(dag, LABEL, QUIET)
        assert delivery.state is State.HELD
        assert delivery.blocks_sent <= len(dag.layout) - there + len(dag.layout.tree_positions())
        assert look(target, dag.layout.root, Check.FULL)[0].state is State.HELD
        target.unpin(dag.layout.root, LABEL)


def blocks_there(peer: ClusterPeer, dag: Dag) -> int:
    return sum(peer.node.block_file(block.cid).exists() for block in dag.layout)


PASSWORD = "canary-5up3r"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterPeer]:
    """A peer that requires authentication."""
    if missing := missing_programs():
        pytest.skip(missing)
    with cluster(tmp_path_factory.mktemp("guarded"), basic_auth={"ci": PASSWORD}) as running:
        yield running[0]


class TestSecrets:
    """Both APIs of a peer that requires authentication: Basic with a password, Bearer with its own token."""

    def cluster(self, peer: ClusterPeer, secret: str) -> Target:
        spec = TargetSpec("c", "ipfs-cluster", {"api": peer.rest, "token_env": "TOKEN"}, Where("t"))
        return open_target(spec, root=Path(), environ={"TOKEN": secret})

    def service(self, peer: ClusterPeer, secret: str) -> Target:
        spec = TargetSpec("p", "pinning-service", {"endpoint": peer.psa, "token_env": "TOKEN"}, Where("t"))
        return open_target(spec, root=Path(), environ={"TOKEN": secret})

    def test_a_password_and_a_token_both_work(self, guarded: ClusterPeer) -> None:
        _, body = call(f"{guarded.rest}/token", method="POST", headers=guarded.headers)
        token = json.loads(body)["token"]
        dag = bundle("guarded")
        with closing(self.cluster(guarded, f"ci:{PASSWORD}")) as target:
            assert target.publish(dag, LABEL, QUIET).state is State.HELD
        for target in (self.cluster(guarded, token), self.service(guarded, token)):
            with closing(target):
                wait_until("the pin", lambda t=target: look(t, dag.layout.root)[0].state is State.HELD, 30)

    def test_a_wrong_secret_is_denied_and_never_shown(self, guarded: ClusterPeer) -> None:
        for target in (self.cluster(guarded, "ci:canary-wrong"), self.service(guarded, "canary-wrong")):
            with closing(target), pytest.raises(AccessDeniedError) as caught:
                target.observe([], Check.QUICK, MARK, QUIET)
            assert "canary" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.slow
class TestThreePeers:
    """A cluster of three that loses a peer and recovers it, or loses blocks, or a Kubo."""

    @pytest.fixture
    def peers(self, tmp_path: Path) -> Iterator[list[ClusterPeer]]:
        if missing := missing_programs():
            pytest.skip(missing)
        with cluster(tmp_path, 3) as running:
            yield running

    def test_a_peer_dies_is_replaced_and_returns(self, peers: list[ClusterPeer]) -> None:
        dag = bundle("three peers")
        root = dag.layout.root
        rules = ReplicationRules(factor_min=2, factor_max=2)
        with closing(cluster_target(peers[0].rest, rules=rules)) as target:
            assert target.publish(dag, LABEL, QUIET).state is State.HELD
            seen, _ = look(target, root)
            assert "pinned on 2 of 2 peers" in seen.checked
            victim = next(peer for peer in peers[1:] if peer.name in seen.checked)

            victim.stop_cluster(signal.SIGKILL)
            seen, _ = look(target, root)
            assert seen.state is State.PARTIAL
            assert f"{victim.name} does not answer" in seen.detail

            gone = f"{victim.name} is gone from the cluster"
            wait_until("its pings to be missed", lambda: gone in look(target, root)[0].detail, 20)
            seen, inventory = look(target, root)
            assert seen.state is State.PARTIAL
            assert any(note.startswith(gone) for note in inventory.notes)

            delivery = target.repair(dag, (), LABEL, QUIET)
            assert (delivery.state, delivery.bytes_sent) == (State.HELD, 0)
            assert victim.name not in look(target, root)[0].checked

            victim.start_cluster()
            back = [f"{peer.name} is gone" for peer in peers]
            wait_until(
                "it to be back",
                lambda: (
                    not any(note.startswith(word) for word in back for note in look(target, root)[1].notes)
                ),
                30,
            )
            wait_until("it to be held again", lambda: state(target, root) is State.HELD, 30)

    def test_nodes_that_lost_different_blocks_heal_each_other(self, peers: list[ClusterPeer]) -> None:
        """There is no source directory: what one node lost, another still has."""
        dag = bundle("two halves")
        root, (one, *_, other) = dag.layout.root, leaves(dag)
        nodes = [node_of(peer) for peer in peers]
        with closing(cluster_target(peers[0].rest, *nodes)) as target:
            assert target.publish(dag, LABEL, QUIET).state is State.HELD
            seen, _ = look(target, root, Check.FULL)
            assert (seen.state, seen.damaged) == (State.HELD, ())
            assert "pinned on 3 of 3 peers" in seen.checked

            peers[0].node.block_file(one).unlink()
            peers[1].node.block_file(other).unlink()
            seen, _ = look(target, root, Check.FULL)
            assert seen.state is State.PARTIAL
            assert set(seen.damaged) == {one, other}
            assert "kubo of peer1: " in seen.detail
            assert "kubo of peer2: " in seen.detail

            with closing(target.dag(root)) as donor:
                delivery = target.repair(donor, seen.damaged, LABEL, QUIET)
            assert delivery.state is State.HELD
            assert 0 < delivery.bytes_sent < dag.layout.size
            assert look(target, root, Check.FULL)[0].state is State.HELD

            peers[2].node.stop(signal.SIGKILL)
            seen, inventory = look(target, root)
            assert seen.state is State.PARTIAL
            assert "peer3 does not answer" in seen.detail
            assert any("the blocks on kubo of peer3 could not be checked" in note for note in inventory.notes)


def test_a_pin_of_a_cid_v0_is_another_pin_and_ours_goes_beside_it(one_peer: ClusterPeer) -> None:
    dag = bundle("pinned as CIDv0")
    root = dag.layout.root
    v0 = str(cids.v0_text(root))
    add_by_hand(one_peer, b"".join(car.stream(dag)), "no-pin=true")
    call(f"{one_peer.rest}/pins/{v0}?name=theirs", method="POST")
    target = cluster_target(one_peer.rest)
    with closing(target):
        wait_until("their pin", lambda: any(pin.spelling == v0 for pin in look(target, root)[1].foreign))
        seen = look(target, root)[0]
        assert (seen.state, "CIDv0" in seen.detail) == (State.ABSENT, True)
        assert target.pin(root, LABEL, ()).state is State.HELD  # no origins: its peers have the blocks
        assert look(target, root)[0].labels == (LABEL,)
        target.unpin(root, LABEL)
        (pin,) = [pin for pin in look(target, root)[1].foreign if pin.root == root]
        target.adopt(pin, LABEL)
        wait_until("our pin", lambda: state(target, root) is State.HELD)
        assert v0.encode() in call(f"{one_peer.rest}/allocations")[1]
