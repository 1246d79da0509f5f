"""Every call to a real node, broken in every way: it succeeds or fails cleanly, and no wrong state remains.

The default run tests the most important calls; `make test-all` tests all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest

from reconciler.content.dag import Dag
from reconciler.errors import BlockUnavailableError, PeerError
from reconciler.net.client import HttpClient, Stream, Timeouts
from reconciler.net.response import Response
from reconciler.net.retry import RetryPolicy
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Observation, State
from reconciler.targets.kubo.rpc import is_command_error
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import FOREIGN_LABEL, LABEL, MARK, OTHER_LABEL
from tests.support.dags import MemoryDag
from tests.support.fault_proxy import FAULTS, SLOW, Fault, FaultProxy
from tests.support.kubo_node import KuboNode
from tests.support.shapes import Builder
from tests.targets.kubo.conftest import make_target, opened

pytestmark = pytest.mark.ipfs

BIG = 70_000  # bytes of a leaf that is requested alone


def small_dag(salt: str) -> MemoryDag:
    """Make a DAG with leaves of both kinds: requested in batches, and one by one."""
    build = Builder(salt)
    return build.dag(build.directory("", [build.file("a", 2, 100), build.file("b", 2, BIG)]))


def small_leaves(salt: str) -> MemoryDag:
    build = Builder(salt)
    return build.dag(build.file("a", 5, 100))


def look(target: KuboTarget, dag: Dag, check: Check = Check.FULL) -> Observation:
    root = dag.layout.root
    return target.observe([Expected(root, (LABEL,))], check, MARK, QUIET).observations[root]


class ImpatientClient(HttpClient):
    """A client with short time limits for calls of `command`, and only for them.

    A node on a busy machine may take seconds for any call, which must not count as the fault under test.
    """

    command: str | None = None

    def request(self, method: str, path: str, **options: Any) -> Response:
        return super().request(method, path, **self._limited(path, options))

    def stream(self, method: str, path: str, **options: Any) -> AbstractContextManager[Stream]:
        return super().stream(method, path, **self._limited(path, options))

    def _limited(self, path: str, options: dict[str, Any]) -> dict[str, Any]:
        impatient = self.command is not None and self.command in path
        return options | {"silence": 0.3, "total": 0.8} if impatient else options


class Scene:
    """A node with a bundle on it, reached directly by `sound` and through a proxy by `target`."""

    def __init__(self, node: KuboNode, proxy: FaultProxy, salt: str) -> None:
        self.node, self.proxy, self.salt = node, proxy, salt
        self.sound = make_target(node.url)
        self.http = http = ImpatientClient(
            proxy.url,
            name="node",
            timeouts=Timeouts(connect=30, silence=60, total=120),
            retry=RetryPolicy(attempts=3),
            sleep=lambda seconds: None,
            is_command_error=is_command_error,
        )
        self.target = opened(KuboTarget("node", http, pin_seconds=30))


# Each operation prepares the scene and returns the attempt, and the DAG that must be held after a second one.


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
    (publish, "refs"),
    (publish, "block/stat"),
    (publish, "repo/stat"),
    (publish, "dag/stat"),
    (publish, "pin/ls"),
    (repair, "block/stat"),
    (repair, "block/get"),
    (repair, "dag/import"),
    (replace, "dag/import"),
    (replace, "block/get"),
    (relabel, "dag/stat"),
    (relabel, "pin/add"),
]


def cases() -> Iterator[object]:
    for operation, command in (*FIRST, *REST):
        for place, (name, fault) in enumerate(FAULTS.items()):
            fast = (operation, command) in FIRST and (FIRST.index((operation, command)) + place) % 3 == 0
            marks = [] if fast else [pytest.mark.slow]
            yield pytest.param(
                operation, command, fault, id=f"{operation.__name__}-{command}-{name}", marks=marks
            )


@pytest.fixture(scope="module")
def relay(shared_node: KuboNode) -> Iterator[FaultProxy]:
    if not shared_node.running:
        shared_node.start()
    shared_node.empty()
    sound = make_target(shared_node.url)
    sound.publish(small_leaves("a stranger"), FOREIGN_LABEL, QUIET)
    sound.close()
    with FaultProxy("127.0.0.1", shared_node.port) as proxy:
        yield proxy


@pytest.mark.parametrize(("operation", "command", "fault"), list(cases()))
@pytest.mark.parametrize("times", [1, pytest.param(None, marks=pytest.mark.slow)], ids=["once", "always"])
def test_a_broken_call_leaves_nothing_wrong(
    shared_node: KuboNode,
    relay: FaultProxy,
    request: pytest.FixtureRequest,
    operation: Callable[[Scene], tuple[Callable[[], object], Dag]],
    command: str,
    fault: Fault,
    times: int | None,
) -> None:
    scene = Scene(shared_node, relay, request.node.nodeid)
    attempt, dag = operation(scene)
    strangers = {cid: name for cid, name in shared_node.pins().items() if cid != str(dag.layout.root)}
    relay.disarm()
    relay.arm(fault, path=command, times=times)
    scene.http.command = command if fault in [FAULTS[name] for name in SLOW] else None
    with suppress(PeerError, BlockUnavailableError):
        attempt()  # when it succeeds, its own assertions apply
    assert relay.hits >= 1
    assert len(relay.paths) < 150
    relay.disarm()
    scene.http.command = None
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
    assert strangers
    assert strangers.items() <= shared_node.pins().items()
    shared_node.call(f"pin/rm?arg={dag.layout.root}")


def whole(node: KuboNode, dag: Dag) -> bool:
    """Return whether `dag` is pinned and every block file is intact."""
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
