"""The rules of a real daemon that the target must follow: its pins, caches, limits and ways of hanging."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from reconciler.content import car
from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.identify import identify
from reconciler.download.pace import ConnectionPace
from reconciler.errors import BlockUnavailableError, PeerError, SafetyError, SourceChangedError, UsageError
from reconciler.index.label import Label
from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.errors import AccessDeniedError, TransientError, UnexpectedResponseError
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET, Quiet
from reconciler.targets import upload_streams
from reconciler.targets.healing import gather
from reconciler.targets.interface import Check, Expected, Observation, Pin, State
from reconciler.targets.kubo import probe
from reconciler.targets.kubo.rpc import KuboRpc, is_command_error
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import FOREIGN_LABEL, LABEL, MARK, OTHER_LABEL, Damage
from tests.support.dags import MemoryDag
from tests.support.fault_proxy import FaultProxy
from tests.support.kubo_node import SMALL_CACHE, KuboNode, kubo_node
from tests.support.plant import MIB, noise, plant
from tests.support.shapes import Builder, Without, bundle, large_file, twins
from tests.support.waiting import wait_until
from tests.targets.kubo.conftest import make_target, opened
from tests.targets.kubo.subject import KuboSubject

pytestmark = pytest.mark.ipfs


@pytest.fixture
def salt(request: pytest.FixtureRequest) -> str:
    return str(request.node.nodeid)


class Notes(Quiet):
    """A Progress that records notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def look(target: KuboTarget, dag: Dag, check: Check = Check.FULL) -> Observation:
    root = dag.layout.root
    return target.observe([Expected(root, (LABEL,))], check, MARK, QUIET).observations[root]


def a_leaf(dag: Dag, number: int = 3) -> Cid:
    return [block.cid for block in dag.layout if block.cid.codec == RAW][number]


def weights(salt: str, megabytes: int) -> MemoryDag:
    build = Builder(salt)
    return build.dag(build.file("weights", megabytes, 1 << 20))


# -- pins that are not ours --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [FOREIGN_LABEL, "backups", ""])
def test_a_foreign_pin_is_left_as_it_is_and_said(subject: KuboSubject, salt: str, name: str) -> None:
    dag = bundle(salt)
    subject.pin_as_stranger(dag, name)
    before = subject.snapshot()
    delivery = subject.target.publish(dag, LABEL, QUIET)
    assert (delivery.state, delivery.bytes_sent) == (State.HELD, 0)
    assert "not ours" in delivery.detail
    with pytest.raises(SafetyError, match="not ours"):
        subject.target.relabel(dag.layout.root, LABEL)
    subject.target.unpin(dag.layout.root, LABEL)
    assert subject.snapshot() == before


def test_blocks_under_a_foreign_pin_are_completed_without_touching_it(
    subject: KuboSubject, salt: str
) -> None:
    dag = bundle(salt)
    subject.pin_as_stranger(dag, FOREIGN_LABEL)
    before = subject.snapshot()
    subject.damage(dag, Damage.LOST_LEAF, a_leaf(dag))
    seen = look(subject.target, dag)
    assert (seen.state, seen.damaged) == (State.PARTIAL, (a_leaf(dag),))
    delivery = subject.target.repair(dag, seen.damaged, LABEL, QUIET)
    assert (delivery.state, delivery.blocks_sent) == (State.HELD, 1)
    assert "not ours" in delivery.detail
    assert subject.snapshot() == before


@pytest.mark.parametrize("inner", [False, True], ids=["leaf", "root"])
def test_a_damaged_block_under_a_foreign_pin_is_replaced_without_touching_it(
    subject: KuboSubject, salt: str, inner: bool
) -> None:
    dag = bundle(salt)
    subject.pin_as_stranger(dag, FOREIGN_LABEL)
    before = subject.snapshot()
    bad = dag.layout.root if inner else a_leaf(dag)
    subject.damage(dag, Damage.CORRUPT_LEAF, bad)
    seen = look(subject.target, dag)
    assert (seen.state, seen.damaged) == (State.PARTIAL, (bad,))
    delivery = subject.target.repair(dag, seen.damaged, LABEL, QUIET)
    assert (delivery.state, delivery.blocks_sent) == (State.HELD, 1)
    assert look(subject.target, dag).state is State.HELD
    assert subject.snapshot() == before


def test_adopt_takes_over_a_foreign_pin_only_when_it_is_complete(subject: KuboSubject, salt: str) -> None:
    dag = bundle(salt)
    subject.pin_as_stranger(dag, "backups")
    subject.damage(dag, Damage.LOST_LEAF, a_leaf(dag))
    with pytest.raises(BlockUnavailableError, match="not complete"):
        subject.target.adopt(Pin(dag.layout.root, "backups"), LABEL)
    assert subject.node.pins()[str(dag.layout.root)] == "backups"
    subject.target.repair(dag, (), LABEL, QUIET)
    subject.target.adopt(Pin(dag.layout.root, "backups"), LABEL)
    assert look(subject.target, dag).labels == (LABEL,)


# -- what may happen to our own pins -----------------------------------------------------------------------


def test_a_label_is_not_changed_over_a_lost_block(subject: KuboSubject, salt: str) -> None:
    """`pin/add` drops the pin before it walks, so over a lost block it would leave no pin."""
    dag = bundle(salt)
    subject.target.publish(dag, LABEL, QUIET)
    subject.damage(dag, Damage.LOST_LEAF, a_leaf(dag))
    with pytest.raises(BlockUnavailableError):
        subject.target.relabel(dag.layout.root, OTHER_LABEL)
    assert subject.node.pins()[str(dag.layout.root)] == LABEL
    with pytest.raises(BlockUnavailableError, match="not pinned"):
        subject.target.relabel(bundle(salt + "other").layout.root, LABEL)


def test_a_pin_of_a_model_with_a_slash_in_its_name_is_ours(subject: KuboSubject, salt: str) -> None:
    dag, slashed = bundle(salt), Label(f"{MARK}org/Name@1.0.0")
    subject.target.publish(dag, slashed, QUIET)
    assert Pin(dag.layout.root, slashed) in subject.target.observe([], Check.QUICK, MARK, QUIET).owned
    assert subject.target.publish(dag, LABEL, QUIET).detail == ""
    subject.target.relabel(dag.layout.root, slashed)
    assert look(subject.target, dag).labels == (slashed,)


@pytest.mark.parametrize("kind", [Damage.CORRUPT_LEAF, Damage.TRUNCATED_LEAF])
def test_a_damaged_inner_node_and_root_are_replaced(subject: KuboSubject, salt: str, kind: Damage) -> None:
    dag = large_file(salt)
    subject.target.publish(dag, LABEL, QUIET)
    tree = [dag.layout.cid(position) for position in dag.layout.tree_positions()]
    for cid in tree[:2]:
        subject.damage(dag, kind, cid)
    for check in (Check.SAMPLE, Check.FULL):
        assert look(subject.target, dag, check).state is State.PARTIAL
    subject.target.repair(dag, (), LABEL, QUIET) if kind is Damage.TRUNCATED_LEAF else subject.target.repair(
        dag, tree[:2], LABEL, QUIET
    )
    assert look(subject.target, dag).state is State.HELD
    assert subject.node.pins()[str(dag.layout.root)] == LABEL


def test_a_damaged_block_that_two_of_our_versions_share_is_replaced_under_both(
    subject: KuboSubject, salt: str
) -> None:
    one, other = twins(salt)
    subject.target.publish(one, LABEL, QUIET)
    subject.target.publish(other, OTHER_LABEL, QUIET)
    shared = next(
        block.cid for block in one.layout if other.layout.find(block.cid) and block.cid.codec == RAW
    )
    before = subject.node.pins()
    subject.damage(one, Damage.CORRUPT_LEAF, shared)
    subject.target.repair(one, (shared,), LABEL, QUIET)
    assert subject.node.pins() == before
    for dag in (one, other):
        assert look(subject.target, dag).state is State.HELD


def test_a_donor_that_lacks_the_good_bytes_costs_no_pin(subject: KuboSubject, salt: str) -> None:
    dag = bundle(salt)
    subject.target.publish(dag, LABEL, QUIET)
    before = subject.node.pins()
    subject.damage(dag, Damage.CORRUPT_LEAF, a_leaf(dag))
    donor = Without(dag, [dag.layout.find(a_leaf(dag)) or 0])
    with pytest.raises(BlockUnavailableError):
        subject.target.repair(donor, (a_leaf(dag),), LABEL, QUIET)
    assert subject.node.pins() == before


def test_a_name_has_255_bytes_and_not_one_more(subject: KuboSubject, salt: str) -> None:
    dag = bundle(salt)
    longest = Label(MARK + "m" * (255 - len(MARK.encode()) - 2) + "é")
    assert len(longest.encode()) == 255
    for call in (subject.target.publish, lambda d, label, p: subject.target.repair(d, (), label, p)):
        with pytest.raises(UsageError, match="256 bytes"):
            call(dag, Label(f"{longest}x"), QUIET)
    assert str(dag.layout.root) not in subject.node.pins()
    subject.target.publish(dag, longest, QUIET)
    assert subject.node.pins()[str(dag.layout.root)] == longest


def test_a_mark_is_compared_as_a_prefix_and_not_as_kubo_filters_names(
    subject: KuboSubject, salt: str
) -> None:
    inside = bundle(salt)
    subject.pin_as_stranger(inside, f"old {LABEL}")
    inventory = subject.target.observe([], Check.QUICK, MARK, QUIET)
    assert inside.layout.root in {pin.root for pin in inventory.foreign}
    assert inside.layout.root not in {pin.root for pin in inventory.owned}


# -- the node's cache of present blocks -------------------------------------------------------------------


@pytest.mark.parametrize(
    "restarted", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["running", "restarted"]
)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Damage.LOST_LEAF, marks=pytest.mark.slow),
        Damage.CORRUPT_LEAF,
        pytest.param(Damage.TRUNCATED_LEAF, marks=pytest.mark.slow),
    ],
)
def test_damage_is_repaired_with_and_without_a_restart(
    subject: KuboSubject, salt: str, kind: Damage, restarted: bool
) -> None:
    dag = bundle(salt)
    subject.target.publish(dag, LABEL, QUIET)
    look(subject.target, dag)  # now the node believes in every block
    subject.damage(dag, kind, a_leaf(dag))
    if restarted:
        subject.node.restart()
    target = make_target(subject.node.url)
    seen = look(target, dag)
    assert (seen.state, seen.damaged) == (State.PARTIAL, (a_leaf(dag),))
    assert target.repair(dag, seen.damaged, LABEL, QUIET).blocks_sent == 1
    assert look(target, dag).state is State.HELD


def test_a_block_that_only_the_cache_of_the_node_has_is_sent_again(subject: KuboSubject, salt: str) -> None:
    """The files of unpinned blocks vanished: an import alone responds 200 and writes nothing."""
    dag = bundle(salt)
    subject.target.publish(dag, LABEL, QUIET)
    subject.target.unpin(dag.layout.root, LABEL)
    for number in (1, 5, 9):
        subject.damage(dag, Damage.LOST_LEAF, a_leaf(dag, number))
    delivery = subject.target.publish(dag, LABEL, QUIET)
    assert delivery.blocks_sent == 3
    assert look(subject.target, dag).state is State.HELD


def test_a_pin_reads_every_leaf_so_what_a_collection_took_makes_it_fail(
    subject: KuboSubject, salt: str
) -> None:
    """`publish` relies on this when it takes a pin that succeeded as the second check."""
    dag = bundle(salt)
    rpc = KuboRpc(HttpClient(subject.node.url, name="node", is_command_error=is_command_error))
    subject.target.publish(dag, LABEL, QUIET)
    subject.target.unpin(dag.layout.root, LABEL)
    assert rpc.dag_stat(dag.layout.root, 0) is not None
    subject.damage(dag, Damage.LOST_LEAF, a_leaf(dag))
    assert rpc.pin_add(dag.layout.root, LABEL, 5) is False
    assert rpc.pin_name(dag.layout.root) is None
    rpc.http.close()


# -- interruption ------------------------------------------------------------------------------------------


class Slow:
    """A Dag that calls `at` when it is asked for its `after`th block."""

    def __init__(self, dag: Dag, after: int, at: object) -> None:
        self._dag, self._left, self._at = dag, after, at

    @property
    def layout(self) -> DagLayout:
        return self._dag.layout

    def read(self, position: int) -> bytes:
        self._left -= 1
        if self._left == 0:
            self._at()  # type: ignore[operator]
        return self._dag.read(position)

    def close(self) -> None:
        self._dag.close()


def test_a_node_killed_while_it_imports_is_published_to_again(tmp_path: Path, salt: str) -> None:
    dag = weights(salt, 40)
    with kubo_node(tmp_path / "kubo") as node:
        target = make_target(node.url, attempts=1)
        with pytest.raises(PeerError):
            target.publish(Slow(dag, 30, lambda: node.stop(signal.SIGKILL)), LABEL, QUIET)
        with pytest.raises(PeerError):
            look(target, dag)
        node.start()
        target = make_target(node.url)
        assert look(target, dag).state is State.ABSENT
        assert target.publish(dag, LABEL, QUIET).state is State.HELD
        assert look(target, dag).state is State.HELD


def test_an_interrupted_publish_sends_only_the_rest(
    subject: KuboSubject, salt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_streams, "LARGEST_JOB", 4 << 20)
    monkeypatch.setattr(upload_streams, "ConnectionPace", lambda _most, latency: ConnectionPace(2, latency))
    dag = weights(salt, 40)

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        subject.target.publish(Slow(dag, 36, fail), LABEL, QUIET)
    assert look(subject.target, dag).state is State.ABSENT
    delivery = subject.target.publish(dag, LABEL, QUIET)
    assert 0 < delivery.bytes_sent <= 13 << 20  # what was not begun, and two segments that were not finished
    assert look(subject.target, dag).state is State.HELD


def test_two_publishers_at_once_both_end_well(subject: KuboSubject, salt: str) -> None:
    dag = weights(salt, 24)
    other = make_target(subject.node.url)
    states: list[State] = []
    threads = [
        threading.Thread(target=lambda t=target: states.append(t.publish(dag, LABEL, QUIET).state))  # type: ignore[misc]
        for target in (subject.target, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert states == [State.HELD, State.HELD]
    assert look(subject.target, dag).labels == (LABEL,)


# -- requests ----------------------------------------------------------------------------------------------


def test_a_quick_observe_makes_two_requests_however_many_versions_there_are(
    subject: KuboSubject, salt: str
) -> None:
    dags = [bundle(f"{salt}{number}") for number in range(20)]
    for number, dag in enumerate(dags):
        subject.target.publish(dag, Label(f"{MARK}m@1.0.{number}"), QUIET)
    with FaultProxy("127.0.0.1", subject.node.port) as proxy:
        target = make_target(proxy.url)
        for count in (1, 20):
            proxy.disarm()
            expected = [Expected(dag.layout.root, (LABEL,)) for dag in dags[:count]]
            inventory = target.observe(expected, Check.QUICK, MARK, QUIET)
            assert {seen.state for seen in inventory.observations.values()} == {State.HELD}
            assert len(proxy.paths) == 2


def test_a_repair_sends_the_bad_blocks_and_nothing_else(subject: KuboSubject, salt: str) -> None:
    dag = weights(salt, 40)
    subject.target.publish(dag, LABEL, QUIET)
    lost = [a_leaf(dag, number) for number in (0, 7, 20, 38, 39)]
    for cid in lost:
        subject.damage(dag, Damage.LOST_LEAF, cid)
    seen = look(subject.target, dag, Check.SAMPLE)
    assert set(seen.damaged) == set(lost)
    assert seen.detail == "5 missing of its blocks"
    delivery = subject.target.repair(dag, seen.damaged, LABEL, QUIET)
    assert (delivery.blocks_sent, delivery.bytes_sent) == (5, 5 << 20)


@pytest.mark.slow
def test_ten_thousand_foreign_pins_stay_as_they_are(salt: str, tmp_path: Path) -> None:
    with kubo_node(tmp_path / "kubo") as node:
        _among_ten_thousand(node, salt, tmp_path / "strangers.car")


def _among_ten_thousand(node: KuboNode, salt: str, stranger: Path) -> None:
    blocks = [f"{salt}{number}".encode() for number in range(10_000)]
    cids = [hash_block(RAW, block) for block in blocks]
    with stranger.open("wb") as out:
        for start in range(0, len(cids), 500):  # roots of one header
            chunk = list(zip(cids, blocks, strict=True))[start : start + 500]
            out.truncate(0)
            out.seek(0)
            out.write(many_rooted_car(chunk))
            out.flush()
            node.run("dag", "import", str(stranger))
    before = node.pins()
    target = make_target(node.url)
    assert len(before) >= 10_000
    dag = bundle(salt)
    target.publish(dag, LABEL, QUIET)
    inventory = target.observe([], Check.QUICK, MARK, QUIET)
    assert len(inventory.foreign) >= 10_000
    target.unpin(dag.layout.root, LABEL)
    assert node.pins() == before


def many_rooted_car(chunk: list[tuple[Cid, bytes]]) -> bytes:
    from reconciler.content import varint

    roots = b"".join(b"\xd8\x2a\x58\x25\x00" + bytes(cid) for cid, _ in chunk)
    header = b"\xa2\x65roots\x99" + len(chunk).to_bytes(2, "big") + roots + b"\x67version\x01"
    sections = [varint.encode(36 + len(data)) + bytes(cid) + data for cid, data in chunk]
    return varint.encode(len(header)) + header + b"".join(sections)


def test_a_full_node_is_warned_about_and_takes_it_all_the_same(tmp_path: Path, salt: str) -> None:
    with kubo_node(tmp_path / "kubo", config={"Datastore.StorageMax": "1MB"}) as node:
        target, notes = make_target(node.url), Notes()
        dag = weights(salt, 2)
        assert target.publish(dag, LABEL, notes).state is State.HELD
        assert any("StorageMax" in text for text in notes.texts)
        notes.texts.clear()
        target.publish(dag, LABEL, notes)
        assert notes.texts == []


# -- a source that changes on its way ----------------------------------------------------------------------


@pytest.mark.parametrize("megabytes", [3, 40])
def test_a_leaf_that_changed_on_its_way_is_refused_and_its_file_named(
    node: KuboNode, tmp_path: Path, megabytes: int
) -> None:
    """Leaves are not hashed again when they are sent: the node does it, and the error names the file."""
    source = plant(tmp_path / "source", {"w.bin": noise(megabytes * MIB, seed=megabytes)})
    dag = identify(bare_bundle(source), cache=None)
    target = make_target(node.url)
    with (source / "w.bin").open("r+b") as file:
        file.seek(2 * MIB)
        good = file.read(1)
        file.seek(2 * MIB)
        file.write(bytes([good[0] ^ 1]))
    with pytest.raises(SourceChangedError, match=r"'w.bin' changed .* \(at byte 2097152\)"):
        target.publish(dag, LABEL, QUIET)
    assert str(dag.layout.root) not in node.pins()
    with (source / "w.bin").open("r+b") as file:
        file.seek(2 * MIB)
        file.write(good)
    assert target.publish(dag, LABEL, QUIET).state is State.HELD
    assert look(target, dag).state is State.HELD


# -- an online node ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
    with kubo_node(tmp_path_factory.mktemp("online"), offline=False, config=SMALL_CACHE) as node:
        yield node


def test_an_online_node_is_never_asked_to_pin_what_is_incomplete(online: KuboNode, salt: str) -> None:
    dag = bundle(salt)
    with FaultProxy("127.0.0.1", online.port) as proxy:
        target = make_target(proxy.url)
        with pytest.raises(BlockUnavailableError):
            target.publish(Without(dag, [dag.layout.find(a_leaf(dag)) or 0]), LABEL, QUIET)
        assert not any("pin/add" in path for path in proxy.paths)
        assert target.publish(dag, LABEL, QUIET).state is State.HELD
        assert any("pin/add" in path and "timeout=30s" in path for path in proxy.paths)
        root = online.block_file(dag.layout.root)
        root.chmod(0o644)
        root.write_bytes(b"!" + root.read_bytes()[1:])
        assert look(target, dag).state is State.PARTIAL
        assert target.repair(dag, (), LABEL, QUIET).blocks_sent == 1
        online.block_file(a_leaf(dag)).unlink()
        assert look(target, dag).state is State.PARTIAL
        assert target.repair(dag, (), LABEL, QUIET).blocks_sent == 1
        assert all(origin.startswith("/ip4/127.") and "/p2p/" in origin for origin in target.origins())
        assert target.origins()


def test_a_stuck_node_is_recognized_before_anything_is_sent(
    tmp_path: Path, salt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pin waits for the network, and a garbage collection waits for the pin."""
    dag = bundle(salt)
    with kubo_node(tmp_path / "kubo", offline=False) as node:
        threads = []
        gone = bundle(salt + "gone")
        car_file = tmp_path / "gone.car"
        car_file.write_bytes(b"".join(car.stream_partial(gone, gone.layout.tree_positions())))
        node.run("dag", "import", "--pin-roots=false", str(car_file))
        for command in (f"pin/add?arg={gone.layout.root}", "repo/gc"):
            thread = threading.Thread(target=_ignore_errors, args=(node, command), daemon=True)
            thread.start()
            threads.append(thread)
            _wait_for_command(node, command.partition("?")[0])
        target = make_target(node.url, attempts=1)
        assert target.observe([], Check.QUICK, MARK, QUIET).notes == ()  # for a minute this is normal
        monkeypatch.setattr(probe, "_PATIENCE", 0.0)
        notes = target.observe([], Check.QUICK, MARK, QUIET).notes
        assert len(notes) == 1
        assert "repo/gc has been waiting behind pin/add" in notes[0]
        with pytest.raises(UnexpectedResponseError, match="is stuck") as caught:
            target.publish(dag, LABEL, QUIET)
        assert "restart" in (caught.value.hint or "")
        assert next(finding for finding in target.diagnose() if finding.subject == "queue").ok is False
        node.stop(signal.SIGKILL)
        for thread in threads:
            thread.join(60)


def _wait_for_command(node: KuboNode, name: str) -> None:
    def runs() -> bool:
        commands = json.loads(node.call("diag/cmds")[1]) or []
        return any(one["Command"] == name and one["Active"] for one in commands)

    wait_until(f"{name} to run", runs)


def _ignore_errors(node: KuboNode, command: str) -> None:
    with suppress(OSError, HTTPException):
        node.call(command)


# -- permissions -------------------------------------------------------------------------------------------

AUTHORIZATIONS = {
    "ours": {"AuthSecret": "bearer:canary-bearer", "AllowedPaths": ["/api/v0"]},
    "basic": {"AuthSecret": "basic:us:canary-basic", "AllowedPaths": ["/api/v0"]},
    "reader": {"AuthSecret": "bearer:canary-reader", "AllowedPaths": ["/api/v0/pin/ls", "/api/v0/version"]},
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
    home = tmp_path_factory.mktemp("guarded")
    node = KuboNode(home, config={"API.Authorizations": AUTHORIZATIONS}, bearer="canary-bearer")
    try:
        node.start()
        yield node
    finally:
        node.stop(signal.SIGKILL)


def with_secret(node: KuboNode, scheme: Scheme, secret: str | None) -> KuboTarget:
    auth = None if secret is None else Auth(scheme, Secret(secret))
    limits = Timeouts(silence=60, total=120)
    http = HttpClient(
        node.url, name="node", auth=auth, retry=NO_RETRY, timeouts=limits, is_command_error=is_command_error
    )
    return opened(KuboTarget("node", http, pin_seconds=60))


@pytest.mark.parametrize(
    ("scheme", "secret"), [(Scheme.BEARER, "canary-bearer"), (Scheme.BASIC, "us:canary-basic")]
)
def test_both_ways_of_authorization_work(guarded: KuboNode, salt: str, scheme: Scheme, secret: str) -> None:
    target = with_secret(guarded, scheme, secret)
    assert target.publish(bundle(salt), LABEL, QUIET).state is State.HELD


@pytest.mark.parametrize("secret", [None, "canary-wrong", "canary-reader"])
def test_a_missing_permission_is_denied_also_while_we_send(
    guarded: KuboNode, salt: str, secret: str | None
) -> None:
    target = with_secret(guarded, Scheme.BEARER, secret)
    dag = weights(salt, 20)
    with pytest.raises(AccessDeniedError) as caught:
        target.publish(dag, LABEL, QUIET)
    assert "canary" not in f"{caught.value} {caught.value.hint}"
    rpc = target._rpc
    from reconciler.net.response import UploadBody

    with pytest.raises(AccessDeniedError):
        rpc.dag_import(UploadBody(dag.layout.car_size, lambda: car.stream(dag)))


def test_doctor_names_every_missing_permission(guarded: KuboNode) -> None:
    target = with_secret(guarded, Scheme.BEARER, "canary-reader")
    findings = {finding.text for finding in target.diagnose() if finding.subject == "permissions"}
    joined = " ".join(findings)
    for command in ("pin/add", "pin/rm", "block/stat", "block/get", "dag/import", "dag/stat", "repo/stat"):
        assert f"/api/v0/{command}" in joined
    assert "pin/ls" not in joined
    target = with_secret(guarded, Scheme.BEARER, "canary-bearer")
    assert all(finding.ok for finding in target.diagnose() if finding.subject == "permissions")


def test_doctor_on_a_sound_node_that_is_offline(subject: KuboSubject) -> None:
    found = {finding.subject: finding for finding in subject.target.diagnose()}
    assert {name for name, finding in found.items() if not finding.ok} == {"network"}
    assert subject.node.run("version", "-n").strip().startswith(found["version"].text.removeprefix("Kubo "))
    assert json.dumps(sorted(found)) == '["clock", "network", "permissions", "queue", "reachable", "version"]'


def test_doctor_on_a_node_that_is_down(subject: KuboSubject) -> None:
    subject.node.stop()
    findings = subject.target.diagnose()
    assert [(finding.subject, finding.ok) for finding in findings] == [("reachable", False)]
    assert "check that it is running" in findings[0].hint


# -- healing others ----------------------------------------------------------------------------------------


def test_two_half_damaged_nodes_heal_each_other(subject: KuboSubject, online: KuboNode, salt: str) -> None:
    dag = bundle(salt)
    here, there = subject.target, make_target(online.url)
    here.publish(dag, LABEL, QUIET)
    there.publish(dag, LABEL, QUIET)
    subject.node.block_file(a_leaf(dag, 2)).unlink()
    subject.node.block_file(dag.layout.root).unlink()
    online.block_file(a_leaf(dag, 8)).unlink()
    for target in (here, there):
        seen = look(target, dag)
        assert seen.state is State.PARTIAL
        donor = gather(dag.layout.root, [here, there])
        assert list(donor.layout) == list(dag.layout)
        target.repair(donor, seen.damaged, LABEL, QUIET)
        assert look(target, dag).state is State.HELD


def test_a_target_that_lies_about_a_block_gives_none(subject: KuboSubject, salt: str) -> None:
    dag = bundle(salt)
    subject.target.publish(dag, LABEL, QUIET)
    subject.damage(dag, Damage.CORRUPT_LEAF, a_leaf(dag))
    served = subject.target.dag(dag.layout.root)
    with pytest.raises(BlockUnavailableError, match="damaged"):
        served.read(dag.layout.find(a_leaf(dag)) or 0)


def test_a_node_that_is_down_is_transient(subject: KuboSubject, salt: str) -> None:
    subject.node.stop()
    with pytest.raises(TransientError, match="cannot be reached"):
        subject.target.publish(bundle(salt), LABEL, QUIET)
