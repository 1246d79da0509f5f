"""Every call to a real node, broken in every way: it works or fails cleanly, and nothing is wrong after it.

The default run takes the calls that matter most; `make test-all` takes all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from reconciler.content.dag import Dag
from reconciler.errors import BlockUnavailableError, PeerError
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.retry import RetryPolicy
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Observation, State
from reconciler.targets.kubo import rpc
from reconciler.targets.kubo.rpc import is_command_error
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import LABEL, MARK, OTHER_LABEL
from tests.support.dags import MemoryDag
from tests.support.fault_proxy import FAULTS, Fault, FaultProxy
from tests.support.kubo_node import KuboNode
from tests.support.shapes import Builder
from tests.targets.kubo.conftest import make_target, opened

pytestmark = pytest.mark.ipfs

BIG = 70_000  # bytes of a leaf that is asked for alone


def small_dag(salt: str) -> MemoryDag:
    """Leaves of both kinds: asked for together, and alone."""
    build = Builder(salt)
    return build.dag(build.directory("", [build.file("a", 2, 100), build.file("b", 2, BIG)]))


def small_leaves(salt: str) -> MemoryDag:
    build = Builder(salt)
    return build.dag(build.file("a", 5, 100))


def look(target: KuboTarget, dag: Dag, check: Check = Check.FULL) -> Observation:
    root = dag.layout.root
    return target.observe([Expected(root, (LABEL,))], check, MARK, QUIET).observations[root]


class Scene:
    """A node with something on it, reached directly by `sound` and through a proxy by `target`."""

    def __init__(self, node: KuboNode, proxy: FaultProxy, salt: str) -> None:
        self.node, self.proxy, self.salt = node, proxy, salt
        self.sound = make_target(node.url)
        http = HttpClient(
            proxy.url,
            name="node",
            timeouts=Timeouts(connect=1, silence=0.3, total=0.8),
            retry=RetryPolicy(attempts=3),
            sleep=lambda seconds: None,
            is_command_error=is_command_error,
        )
        self.target = opened(KuboTarget("node", http, pin_seconds=1, allow_unpin_repair=True))


# Each operation: set the scene, then return what is tried and the DAG that must be held after a second try.


def observe_sample(scene: Scene) -> tuple[Callable[[], object], Dag]:
    dag = small_dag(scene.salt)
    scene.sound.publish(dag, LABEL, QUIET)
    scene.node.block_file(dag.layout.cid(len(dag.layout) - 1)).unlink()
    truth = look(scene.sound, dag, Check.SAMPLE)
    assert truth.state is State.PARTIAL

    def attempt() -> None:
        seen = look(scene.target, dag, Check.SAMPLE)
        assert (seen.state, seen.damaged) == (truth.state, truth.damaged)

    return attempt, dag


def observe_full(scene: Scene) -> tuple[Callable[[], object], Dag]:
    dag = small_leaves(scene.salt)
    scene.sound.publish(dag, LABEL, QUIET)

    def attempt() -> None:
        assert look(scene.target, dag).state is State.HELD

    return attempt, dag


def publish(scene: Scene) -> tuple[Callable[[], object], Dag]:
    dag = small_dag(scene.salt)

    def attempt() -> None:
        assert scene.target.publish(dag, LABEL, QUIET).state is State.HELD

    return attempt, dag


def repair(scene: Scene) -> tuple[Callable[[], object], Dag]:
    dag = small_dag(scene.salt)
    scene.sound.publish(dag, LABEL, QUIET)
    lost = dag.layout.cid(len(dag.layout) - 1)
    scene.node.block_file(lost).unlink()

    def attempt() -> None:
        assert scene.target.repair(dag, (lost, dag.layout.root), LABEL, QUIET).state is State.HELD

    return attempt, dag


def replace(scene: Scene) -> tuple[Callable[[], object], Dag]:
    dag = small_dag(scene.salt)
    scene.sound.publish(dag, LABEL, QUIET)
    wrong = dag.layout.cid(len(dag.layout) - 1)
    file = scene.node.block_file(wrong)
    file.chmod(0o644)
    file.write_bytes(b"!" + file.read_bytes()[1:])

    def attempt() -> None:
        assert scene.target.repair(dag, (wrong,), LABEL, QUIET).state is State.HELD

    return attempt, dag


def relabel(scene: Scene) -> tuple[Callable[[], object], Dag]:
    dag = small_dag(scene.salt)
    scene.sound.publish(dag, OTHER_LABEL, QUIET)

    def attempt() -> None:
        scene.target.relabel(dag.layout.root, LABEL)

    return attempt, dag


FIRST = [(publish, "dag/import"), (publish, "pin/add"), (observe_sample, "pin/ls"), (repair, "dag/stat")]
REST = [
    (observe_sample, "diag/cmds"),
    (observe_sample, "block/get"),
    (observe_sample, "block/stat"),
    (observe_full, "dag/export"),
    (publish, "diag/cmds"),
    (publish, "block/stat"),
    (publish, "repo/stat"),
    (publish, "dag/stat"),
    (publish, "pin/ls"),
    (repair, "block/stat"),
    (repair, "block/get"),
    (repair, "dag/import"),
    (replace, "block/rm"),
    (replace, "pin/rm"),
    (replace, "pin/add"),
    (relabel, "dag/stat"),
    (relabel, "pin/add"),
]


def cases() -> Iterator[object]:
    for operation, command in (*FIRST, *REST):
        marks = [] if (operation, command) in FIRST else [pytest.mark.slow]
        for name, fault in FAULTS.items():
            yield pytest.param(
                operation, command, fault, id=f"{operation.__name__}-{command}-{name}", marks=marks
            )


@pytest.fixture(scope="module")
def relay(shared_node: KuboNode) -> Iterator[FaultProxy]:
    if not shared_node.running:
        shared_node.start()
    with FaultProxy("127.0.0.1", shared_node.port) as proxy:
        yield proxy


@pytest.mark.parametrize(("operation", "command", "fault"), list(cases()))
@pytest.mark.parametrize("times", [1, pytest.param(None, marks=pytest.mark.slow)], ids=["once", "always"])
def test_a_broken_call_leaves_nothing_wrong(
    shared_node: KuboNode,
    relay: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    operation: Callable[[Scene], tuple[Callable[[], object], Dag]],
    command: str,
    fault: Fault,
    times: int | None,
) -> None:
    monkeypatch.setattr(rpc, "_FLUSHING", 0.1)
    scene = Scene(shared_node, relay, request.node.nodeid)
    attempt, dag = operation(scene)
    strangers = {cid: name for cid, name in shared_node.pins().items() if cid != str(dag.layout.root)}
    relay.disarm()
    relay.arm(fault, path=command, times=times)
    with suppress(PeerError, BlockUnavailableError):
        attempt()  # its own assertions hold whenever it answers at all
    assert relay.hits >= 1
    assert len(relay.paths) < 150
    relay.disarm()
    seen = look(scene.sound, dag)
    assert (seen.state is State.HELD) == whole(shared_node, dag)
    if operation is relabel:
        if seen.state is State.HELD:
            attempt()
    else:
        scene.sound.close()
        scene.target.publish(dag, LABEL, QUIET) if seen.state is State.ABSENT else scene.target.repair(
            dag, seen.damaged, LABEL, QUIET
        )
        assert look(scene.target, dag).state is State.HELD
    assert strangers.items() <= shared_node.pins().items()


def whole(node: KuboNode, dag: Dag) -> bool:
    """The truth: pinned, and every block file as it should be."""
    if str(dag.layout.root) not in node.pins():
        return False
    files = [(block.cid, node.block_file(block.cid)) for block in dag.layout]
    return all(file.exists() and cid.matches(file.read_bytes()) for cid, file in files)


@pytest.mark.parametrize("operation", [observe_sample, publish, repair])
def test_a_node_that_comes_back_is_used_without_another_run(
    shared_node: KuboNode, relay: FaultProxy, request: pytest.FixtureRequest, operation: Callable[..., object]
) -> None:
    scene = Scene(shared_node, relay, request.node.nodeid)
    relay.disarm()
    attempt, _ = operation(scene)  # type: ignore[misc]
    scene.target._http._sleep = lambda seconds: relay.up()
    relay.down()
    attempt()
