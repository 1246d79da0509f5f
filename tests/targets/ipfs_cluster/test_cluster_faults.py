"""Every call of the cluster target with every fault: recovery, or one error and a correct state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from reconciler.content.dag import Dag
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.client import Timeouts
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.ipfs_cluster.target import ClusterTarget, WaitLimits
from tests.support.fake_cluster import FakeCluster, fake_cluster
from tests.support.fault_proxy import FAULTS, SLOW, FaultProxy
from tests.support.pairs import pairs
from tests.support.shapes import bundle
from tests.targets.ipfs_cluster.targets import cluster_target

MARK = "reconciler/i/"
LABEL = Label(f"{MARK}m@1.0.0")
ATTEMPTS = 3


@dataclass
class Scene:
    """A cluster behind a proxy that breaks calls, and a target that bypasses the proxy.

    `target` has time for a busy machine, `hasty` soon leaves a cluster that is silent.
    """

    fake: FakeCluster
    proxy: FaultProxy
    target: ClusterTarget
    hasty: ClusterTarget
    direct: ClusterTarget
    dag: Dag

    def truth(self) -> State:
        """Return the state as the fake has it."""
        return look(self.direct, self.dag)


def look(target: ClusterTarget, dag: Dag) -> State:
    inventory = target.observe([Expected(dag.layout.root, (LABEL,))], Check.QUICK, MARK, QUIET)
    return inventory.observations[dag.layout.root].state


@pytest.fixture(scope="module")
def stage() -> Iterator[Scene]:
    with fake_cluster("peer1", "peer2") as fake, FaultProxy("127.0.0.1", port_of(fake.url)) as proxy:
        limits = WaitLimits(pending=0.3, bad=0.1, pause=0.01)
        target = cluster_target(proxy.url, attempts=ATTEMPTS, limits=limits)
        timeouts = Timeouts(connect=30, silence=0.2, total=0.7)
        hasty = cluster_target(proxy.url, attempts=ATTEMPTS, timeouts=timeouts, limits=limits)
        direct = cluster_target(fake.url)
        yield Scene(fake, proxy, target, hasty, direct, bundle("faults"))
        for each in (target, hasty, direct):
            each.close()


@pytest.fixture
def scene(stage: Scene) -> Scene:
    """The stage in its initial state."""
    stage.proxy.disarm()
    stage.fake.entries.clear()
    stage.fake.blocks.clear()
    stage.fake.overrides.clear()
    return stage


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


#: what is done, the call that is broken, and how many like it are let through before
ONCE = [
    ("observe", "/allocations", 0),
    ("observe", "/pins", 0),
    ("observe", "/peers", 0),
    ("observe", "/health/alerts", 0),
    ("publish", "/allocations/", 0),
    ("publish", "/add", 0),
    ("publish", "/add", 1),
    ("publish", "/pins/", 0),
    ("repair", "/recover", 0),
    ("unpin", "/pins/", 0),
]


@pytest.mark.parametrize(("call", "fault"), pairs(ONCE, list(FAULTS), every=8))
def test_after_a_transient_fault_the_state_is_correct(
    scene: Scene, call: tuple[str, str, int], fault: str
) -> None:
    work, path, skip = call
    root = scene.dag.layout.root
    target = scene.hasty if fault in SLOW else scene.target
    if work != "publish":
        scene.direct.publish(scene.dag, LABEL, QUIET)
    if work == "repair":
        scene.fake.overrides[str(root), "peer2"] = ("unexpectedly_unpinned", scene.fake.now)
    scene.proxy.arm(FAULTS[fault], path=path, times=1, skip=skip)
    try:
        if work == "observe":
            assert look(target, scene.dag) is State.HELD
        elif work == "publish":
            delivery = target.publish(scene.dag, LABEL, QUIET)
            assert delivery.state in (State.HELD, State.PENDING)
        elif work == "repair":
            assert target.repair(scene.dag, (), LABEL, QUIET).state is State.HELD
        else:
            target.unpin(root, LABEL)
            assert scene.truth() is State.ABSENT
    except PeerError as error:
        assert "\n" not in error.message
        assert error.message.startswith("cluster")
    assert scene.proxy.hits == 1
    if work == "unpin":
        assert scene.truth() in (State.ABSENT, State.HELD)
        scene.target.unpin(root, LABEL)
        assert scene.truth() is State.ABSENT
        return
    if work != "repair":
        assert scene.truth() in ((State.HELD, State.ABSENT) if work == "publish" else (State.HELD,))
    assert scene.target.publish(scene.dag, LABEL, QUIET).state is State.HELD
    assert scene.truth() is State.HELD


@pytest.mark.parametrize(
    ("call", "fault"),
    pairs(
        [("observe", "/pins"), ("publish", "/add")],
        [name for name in FAULTS if name not in ("length-too-short", "drip")],
        every=2,
    ),
)
def test_a_permanent_fault_ends_within_the_budget(scene: Scene, call: tuple[str, str], fault: str) -> None:
    work, path = call
    target = scene.hasty if fault in SLOW else scene.target
    if work == "observe":
        scene.direct.publish(
            scene.dag, LABEL, QUIET
        )  # an empty list is 204, and no length can be wrong there
    scene.proxy.arm(FAULTS[fault], path=path)
    begin = time.monotonic()
    with pytest.raises(PeerError) as caught:
        if work == "observe":
            look(target, scene.dag)
        else:
            target.publish(scene.dag, LABEL, QUIET)
    assert "\n" not in caught.value.message
    assert 1 <= scene.proxy.hits <= (ATTEMPTS if work == "observe" else 2 * ATTEMPTS)
    assert time.monotonic() - begin < 60
    assert scene.truth() in (State.ABSENT, State.HELD)


def test_a_cluster_that_is_down_is_an_error_with_its_address(scene: Scene) -> None:
    scene.proxy.down()
    with pytest.raises(PeerError, match="cannot be reached"):
        look(scene.target, scene.dag)
    with pytest.raises(PeerError, match="cannot be reached"):
        scene.target.publish(scene.dag, LABEL, QUIET)
    scene.proxy.up()
    assert scene.target.publish(scene.dag, LABEL, QUIET).state is State.HELD
