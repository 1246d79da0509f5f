"""Damage of several kinds at once, shared, foreign, or older than the version: one run repairs it all.

No pin is removed on the way, whether ours or foreign, so a kill cannot lose one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.content import car
from reconciler.content.cid import DAG_PB, Cid
from reconciler.errors import BlockUnavailableError, PeerError
from reconciler.index.label import Label
from reconciler.net.errors import UnexpectedResponseError
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.kubo import heal
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import FOREIGN_LABEL, LABEL, MARK, OTHER_LABEL, Damage
from tests.support.dags import MemoryDag
from tests.support.fault_proxy import Answer, FaultProxy
from tests.support.kubo_node import KuboNode, kubo_node
from tests.support.releases import Releases
from tests.support.shapes import Builder
from tests.targets.kubo.conftest import make_target
from tests.targets.kubo.subject import KuboSubject

pytestmark = pytest.mark.ipfs

CORRUPT, TRUNCATED, LOST = Damage.CORRUPT_LEAF, Damage.TRUNCATED_LEAF, Damage.LOST_LEAF


@pytest.fixture
def salt(request: pytest.FixtureRequest) -> str:
    return str(request.node.nodeid)


def nested(salt: str) -> MemoryDag:
    """Return root, the directories `sub` and `sub/deep`, each with a file of several leaves."""
    build = Builder(salt)
    deep = build.directory("deep", [build.file("z", 5, 100)])
    sub = build.directory("sub", [build.file("x", 5, 100), deep])
    return build.dag(build.directory("", [build.file("a", 5, 100), sub]))


def inner(dag: MemoryDag) -> list[Cid]:
    """Return the inner nodes, the root first."""
    return [block.cid for block in dag.layout if block.cid.codec == DAG_PB]


def leaf(dag: MemoryDag, number: int) -> Cid:
    return [block.cid for block in dag.layout if block.cid.codec != DAG_PB][number]


def seen(target: KuboTarget, dag: MemoryDag, check: Check = Check.FULL) -> State:
    root = dag.layout.root
    return target.observe([Expected(root, (LABEL,))], check, MARK, QUIET).observations[root].state


def whole(node: KuboNode, dag: MemoryDag) -> bool:
    """Return whether every block of `dag` is intact in the files of the node."""
    files = [(block.cid, node.block_file(block.cid)) for block in dag.layout]
    return all(file.exists() and cid.matches(file.read_bytes()) for cid, file in files)


# Each returns what is damaged, and how.
Victims = Callable[[MemoryDag], dict[Cid, Damage]]
TOGETHER: dict[str, Victims] = {
    "inner and its leaf": lambda dag: {inner(dag)[2]: CORRUPT, leaf(dag, -1): CORRUPT},
    "root and two leaves": lambda dag: {dag.layout.root: CORRUPT, leaf(dag, 0): CORRUPT, leaf(dag, 7): LOST},
    "every inner node": lambda dag: dict.fromkeys(inner(dag), CORRUPT),
    "nested, every kind": lambda dag: {
        inner(dag)[1]: TRUNCATED,
        inner(dag)[-1]: LOST,
        leaf(dag, 3): TRUNCATED,
        leaf(dag, -1): CORRUPT,
    },
    "an inner node lost, another corrupt": lambda dag: {inner(dag)[0]: LOST, inner(dag)[-1]: CORRUPT},
    "every block": lambda dag: {block.cid: CORRUPT for block in dag.layout},
}


@pytest.mark.parametrize("victims", TOGETHER.values(), ids=TOGETHER)
def test_several_damages_in_one_tree_are_repaired_in_one_run(
    subject: KuboSubject, salt: str, victims: Victims
) -> None:
    dag = nested(salt)
    subject.target.publish(dag, LABEL, QUIET)
    for cid, kind in victims(dag).items():
        subject.damage(dag, kind, cid)
    expected = Expected(dag.layout.root, (LABEL,))
    found = subject.target.observe([expected], Check.FULL, MARK, QUIET).observations[dag.layout.root]
    assert found.state is State.PARTIAL
    delivery = subject.target.repair(dag, found.damaged, LABEL, QUIET)
    assert (delivery.state, delivery.blocks_sent) == (State.HELD, len(victims(dag)))
    assert whole(subject.node, dag)
    assert subject.node.pins()[str(dag.layout.root)] == LABEL


@pytest.mark.parametrize("kind", [CORRUPT, TRUNCATED, LOST])
@pytest.mark.parametrize("part", [inner, lambda dag: [leaf(dag, 2)]], ids=["inner nodes", "leaf"])
def test_damage_that_was_there_before_the_first_publish_is_replaced(
    subject: KuboSubject, salt: str, kind: Damage, part: Callable[[MemoryDag], list[Cid]]
) -> None:
    """The blocks came from somebody else, or are left from an unpinned version."""
    dag = nested(salt)
    stranger = subject.scratch / "blocks.car"
    positions = [dag.layout.find(cid) or 0 for cid in part(dag)]
    stranger.write_bytes(b"".join(car.stream_partial(dag, positions)))
    subject.node.run("dag", "import", "--pin-roots=false", str(stranger))
    for cid in part(dag):
        subject.damage(dag, kind, cid)
    assert subject.target.publish(dag, LABEL, QUIET).state is State.HELD
    assert whole(subject.node, dag)
    assert seen(subject.target, dag) is State.HELD


def test_a_damaged_block_among_many_new_ones_is_found_before_a_publish(
    subject: KuboSubject, salt: str
) -> None:
    build = Builder(salt)
    small = build.file("config.json", 1, 300)
    config = build.dag(small)
    subject.pin_as_stranger(config, "somebody's")
    dag = build.dag(build.directory("", [build.file("weights", 300, 64), small]))
    subject.damage(config, CORRUPT, small.cid)
    assert subject.target.publish(dag, LABEL, QUIET).state is State.HELD
    assert whole(subject.node, dag)
    assert subject.node.pins()[str(small.cid)] == "somebody's"


def versions(salt: str, count: int) -> list[MemoryDag]:
    """Return versions that share a directory with a file, and a file."""
    build = Builder(salt)
    shared = build.directory("sub", [build.file("x", 4, 100)])
    weights = build.file("w", 4, 100)
    return [
        build.dag(build.directory("", [build.file(f"own{number}", 2, 100), shared, weights]))
        for number in range(count)
    ]


@pytest.mark.parametrize("also_own", [False, True], ids=["shared", "shared and own"])
def test_shared_damage_costs_no_version_its_pin(subject: KuboSubject, salt: str, also_own: bool) -> None:
    """Ours and foreign ones; also where another version has more damage, which its own repair replaces."""
    dags = versions(salt, 4)
    for number, dag in enumerate(dags[:3]):
        subject.target.publish(dag, Label(f"{MARK}m@{number}.0.0"), QUIET)
    subject.pin_as_stranger(dags[3], FOREIGN_LABEL)
    before = subject.node.pins()
    shared = [cid for cid in inner(dags[0]) if cid in inner(dags[1])]
    for cid in (*shared, *(block.cid for block in dags[0].layout if dags[1].layout.find(block.cid))):
        subject.damage(dags[0], CORRUPT, cid)
    if also_own:
        for dag in dags[:3]:
            subject.damage(dag, CORRUPT, dag.layout.root)
    for number, dag in enumerate(dags[:3]):
        subject.target.repair(dag, (), Label(f"{MARK}m@{number}.0.0"), QUIET)
        assert whole(subject.node, dag)
        assert subject.node.pins() == before
    assert whole(subject.node, dags[3])


@pytest.mark.parametrize("kind", [CORRUPT, TRUNCATED, LOST])
@pytest.mark.parametrize(
    "owner", ["backups", *(pytest.param(each, marks=pytest.mark.slow) for each in (FOREIGN_LABEL, LABEL, ""))]
)
def test_a_broken_pin_of_anyone_does_not_stop_the_repair_of_others(
    subject: KuboSubject, salt: str, kind: Damage, owner: str
) -> None:
    """Kubo refuses every `block/rm` then, because its check of all pins fails."""
    broken, dag = nested(salt + "broken"), nested(salt)
    subject.pin_as_stranger(broken, owner)
    subject.target.publish(dag, OTHER_LABEL, QUIET)
    before = subject.node.pins()
    subject.damage(broken, kind, inner(broken)[1])
    for cid in (inner(dag)[1], leaf(dag, 1)):
        subject.damage(dag, CORRUPT, cid)
    assert subject.target.repair(dag, (), OTHER_LABEL, QUIET).state is State.HELD
    assert whole(subject.node, dag)
    fresh = versions(salt, 1)[0]
    subject.target.publish(fresh, Label(f"{MARK}fresh@1.0.0"), QUIET)
    assert before.items() <= subject.node.pins().items()
    subject.node.call(f"pin/rm?arg={broken.layout.root}")


def test_a_repair_removes_no_pin_and_no_block(subject: KuboSubject, salt: str) -> None:
    dag = nested(salt)
    subject.target.publish(dag, LABEL, QUIET)
    with FaultProxy("127.0.0.1", subject.node.port) as proxy:
        target = make_target(proxy.url)
        subject.damage(dag, CORRUPT, inner(dag)[1])
        target.repair(dag, (), LABEL, QUIET)
        assert proxy.paths
        assert not [path for path in proxy.paths if "/rm" in path or "pin/add" in path or "drop" in path]


@pytest.mark.parametrize("dropped", [False, True], ids=["answer lost", "refused"])
def test_a_pin_that_cannot_be_renamed_keeps_its_name(subject: KuboSubject, salt: str, dropped: bool) -> None:
    """Kubo drops the pin before it walks, so a rename that fails on the way would lose it."""
    dag = nested(salt)
    subject.target.publish(dag, LABEL, QUIET)
    with FaultProxy("127.0.0.1", subject.node.port) as proxy:
        target = make_target(proxy.url, attempts=1)
        real = target._rpc.pin_add

        def losing(root: Cid, name: str, seconds: int) -> bool:
            if name == OTHER_LABEL:
                subject.node.call(f"pin/rm?arg={root}")
                if dropped:
                    return False
                raise UnexpectedResponseError("node", "did not pin it in time")
            return real(root, name, seconds)

        target._rpc.pin_add = losing  # type: ignore[method-assign]
        for call in (
            lambda: target.relabel(dag.layout.root, OTHER_LABEL),
            lambda: target.publish(dag, OTHER_LABEL, QUIET),
        ):
            with pytest.raises((BlockUnavailableError, PeerError)):
                call()
            assert subject.node.pins()[str(dag.layout.root)] == LABEL


@pytest.mark.parametrize(
    "command", ["dag/import", "block/get", "block/stat", "pin/ls", "dag/stat", "diag/cmds"]
)
def test_a_repair_that_fails_at_any_call_keeps_every_pin(
    subject: KuboSubject, salt: str, command: str
) -> None:
    dags = versions(salt, 2)
    for dag, label in zip(dags, (LABEL, OTHER_LABEL), strict=True):
        subject.target.publish(dag, label, QUIET)
    before = subject.node.pins()
    shared = next(cid for cid in inner(dags[0]) if cid in inner(dags[1]))
    subject.damage(dags[0], CORRUPT, shared)
    with FaultProxy("127.0.0.1", subject.node.port) as proxy:
        target = make_target(proxy.url, attempts=1)
        proxy.arm(Answer(500, body=b"no"), path=command, skip=2 if command == "dag/import" else 0)
        with pytest.raises(PeerError):
            target.repair(dags[0], (), LABEL, QUIET)
    assert subject.node.pins() == before
    subject.target.repair(dags[0], (), LABEL, QUIET)
    assert all(whole(subject.node, dag) for dag in dags)


# -- the blocks of a first publish ---------------------------------------------------------------------------


def test_a_first_publish_looks_for_many_leaves_in_one_request(subject: KuboSubject, salt: str) -> None:
    build = Builder(salt)
    dag = build.dag(build.directory("", [build.file("a", 200, 100)]))
    with FaultProxy("127.0.0.1", subject.node.port) as proxy:
        delivery = make_target(proxy.url).publish(dag, LABEL, QUIET)
        asked = [path for path in proxy.paths if "refs" in path or "block/" in path]
    assert delivery.blocks_sent == len(dag.layout)
    assert len(asked) < 10
    assert whole(subject.node, dag)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(403, body=b"403 - Forbidden"),
        Answer(404, body=b"no such command"),
        Answer(200, body=b""),
        Answer(200, body=b'{"Ref":"","Err":"block was not fo'),
        Answer(200, body=b'{"Ref":"","Err":"block was not found locally (offline): ipld: could not find x"}'),
    ],
    ids=["denied", "unknown", "empty", "cut off", "another block"],
)
def test_a_first_publish_does_not_depend_on_the_answers_to_refs(
    subject: KuboSubject, salt: str, answer: Answer
) -> None:
    """Nor does it end over blocks that were damaged before."""
    dag = nested(salt)
    subject.target.publish(dag, FOREIGN_LABEL, QUIET)
    subject.damage(dag, LOST, leaf(dag, 1))
    subject.damage(dag, CORRUPT, leaf(dag, 2))
    with FaultProxy("127.0.0.1", subject.node.port) as proxy:
        proxy.arm(answer, path="/refs")
        make_target(proxy.url, attempts=1).publish(dag, LABEL, QUIET)
        assert proxy.hits
    assert whole(subject.node, dag)


# -- nodes of other settings ---------------------------------------------------------------------------------


@pytest.fixture
def other_node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KuboNode]:
    with kubo_node(tmp_path / "other", config=request.param) as node:
        yield node


@pytest.mark.parametrize(
    "other_node",
    [
        {},
        *(
            pytest.param({"Datastore.BlockKeyCacheSize": size}, marks=pytest.mark.slow)
            for size in (0, 50, 700, 5000, 200_000)
        ),
    ],
    indirect=True,
    ids=json.dumps,
)
def test_a_cache_of_any_size_is_displaced(
    other_node: KuboNode, salt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heal, "_ATTEMPTS", heal._ATTEMPTS[1:])  # without that of the other tests
    dag, target = nested(salt), make_target(other_node.url)
    target.publish(dag, LABEL, QUIET)
    for _ in range(3):
        assert seen(target, dag) is State.HELD  # every read makes an entry, or renews it
    KuboSubject(target, other_node, other_node.home).damage(dag, CORRUPT, inner(dag)[1])
    assert target.repair(dag, (), LABEL, QUIET).state is State.HELD
    assert whole(other_node, dag)


@pytest.mark.parametrize(
    "other_node",
    [{"Datastore.WriteThrough": False}, {"Datastore.BloomFilterSize": 1 << 20}],
    indirect=True,
    ids=json.dumps,
)
def test_a_node_that_does_not_overwrite_is_named_and_the_advice_helps(
    other_node: KuboNode, salt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heal, "_ATTEMPTS", ((64, 2),))
    dag, target = nested(salt), make_target(other_node.url)
    target.publish(dag, LABEL, QUIET)
    before = other_node.pins()
    KuboSubject(target, other_node, other_node.home).damage(dag, CORRUPT, leaf(dag, 1))
    with pytest.raises(UnexpectedResponseError, match="keeps damaged bytes") as caught:
        target.repair(dag, (), LABEL, QUIET)
    assert "ipfs repo verify --drop" in (caught.value.hint or "")
    assert other_node.pins() == before
    other_node.call("repo/verify?drop=true")
    assert target.repair(dag, (), LABEL, QUIET).state is State.HELD
    assert whole(other_node, dag)


# -- whole runs ----------------------------------------------------------------------------------------------


def test_a_run_repairs_shared_damage_and_the_next_plan_is_empty(node: KuboNode, tmp_path: Path) -> None:
    """Three versions share a directory whose node is damaged, as is a leaf below it and a foreign block."""
    releases = Releases(tmp_path / "repo", "k")
    releases.specs["k"] = {"kind": "kubo", "api": node.url}
    for number in (1, 2, 3):
        releases.add(f"m@{number}.0.0", {"sub/x": b"same" * 100, "a": f"{number}".encode()})
    releases.apply()
    subject = KuboSubject(make_target(node.url), node, tmp_path)
    roots = [releases.cid(f"m@{number}.0.0") for number in (1, 2, 3)]
    layouts = [subject.target.dag(root).layout for root in roots]
    dag = subject.target.dag(roots[0])
    shared = [block.cid for block in layouts[0] if all(layout.find(block.cid) for layout in layouts)]
    before = node.pins()
    assert len(shared) == 2
    for cid in shared:
        subject.damage(dag, CORRUPT, cid)
    report = releases.apply(check=Check.FULL)
    assert not report.failed
    assert node.pins() == before
    assert releases.plan(check=Check.FULL).changes == ()
