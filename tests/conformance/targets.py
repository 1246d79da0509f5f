"""The requirements on every target, as a library; README.md explains how to apply it to a new target.

A test of a target subclasses `TargetSuite`, provides a `subject` fixture and sets the fields in which it
differs. A slow peer sets `settle_seconds`. For what a target cannot do according to its capabilities, the
suite requires the refusal instead.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from typing import ClassVar, Protocol

import pytest

from reconciler.content.cid import Cid
from reconciler.content.dag import Block, Dag, DagLayout
from reconciler.content.part_dag import PartDag
from reconciler.errors import BlockUnavailableError, PeerError, SourceChangedError
from reconciler.index.label import Label
from reconciler.index.part import Part
from reconciler.progress import QUIET
from reconciler.targets.interface import (
    Check,
    Delivery,
    Expected,
    IngestedBlock,
    Ingests,
    IngestSession,
    Observation,
    Pin,
    State,
    Target,
    UnsupportedError,
)
from tests.support.dags import MemoryDag
from tests.support.shapes import SHAPES, Failing, Without, bundle, large_file, single_leaf, twins

MARK = "reconciler/suite/"
LABEL = Label(f"{MARK}model@1.0.0")
OTHER_LABEL = Label(f"{MARK}model@1.0.1")
FOREIGN_LABEL = Label("reconciler/someone-else/model@1.0.0")  # another index in the same target
STRANGER_LABEL = "backups 2019"  # no reconciler at all


class Damage(StrEnum):
    """Ways in which a peer loses blocks without our doing."""

    LOST_LEAF = "leaf lost"
    CORRUPT_LEAF = "leaf corrupted, same size"
    TRUNCATED_LEAF = "leaf truncated"
    LOST_INNER = "inner node lost"
    LOST_ROOT = "root node lost"
    ALL_LOST = "every block lost, the pin kept"


class Subject(Protocol):
    """One empty target, and access to its peer that does not use the code under test."""

    target: Target

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        """Damage the block `cid` of the published `dag`, in the storage of the peer."""

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        """Keep `dag` under `label`, as another program or another index would, and wait until it is kept."""

    def serve(self, dag: Dag) -> Sequence[str]:
        """Make `dag` available to a target that pins by CID, and return its origins."""

    def snapshot(self) -> object:
        """Return everything that the peer keeps, as a value that is equal as long as nothing changes."""

    def make_unreachable(self) -> None:
        """Stop or hide the peer; only `observe` is called afterwards."""


def leaves_of(dag: Dag) -> list[IngestedBlock]:
    """Return the leaves of `dag`, as a pass over a source gives them."""
    layout = dag.layout
    return [
        IngestedBlock(position, layout.cid(position), dag.read(position))
        for position in range(len(layout))
        if layout.is_leaf(position)
    ]


class TargetSuite:
    """The suite. Subclass it as `Test…` with a `subject` fixture."""

    #: seconds until the peer reports a change
    settle_seconds: ClassVar[float] = 0.0
    #: the kinds of damage that `Subject.damage` supports, and the shallowest check that must detect each
    seen_at: ClassVar[Mapping[Damage, Check]] = {}
    #: the kinds of damage that the fast suite tries, where a test of one takes seconds; None: all
    fast_damage: ClassVar[Collection[Damage] | None] = None
    #: the kinds of damage after which the target cannot name the bad blocks
    vague: ClassVar[frozenset[Damage]] = frozenset()
    #: blocks that a repair may send besides the damaged ones and the inner nodes
    repair_slack: ClassVar[int] = 0
    #: whether the next publish can use the blocks that an interrupted publish sent
    resumes: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Leave out the tests of damage for a target on which none can be seen."""
        super().__init_subclass__()
        for name in (name for name in DAMAGE_TESTS if name not in vars(cls)):
            setattr(cls, name, getattr(TargetSuite, name) if cls.seen_at else None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "damage" in metafunc.fixturenames:
            fast = self.seen_at if self.fast_damage is None else self.fast_damage
            kinds = [
                pytest.param(kind, id=kind.name.lower(), marks=() if kind in fast else pytest.mark.slow)
                for kind in self.seen_at
            ]
            metafunc.parametrize("damage", kinds)
        if "shape" in metafunc.fixturenames:
            metafunc.parametrize("shape", list(SHAPES))

    # -- parts of the tests, which a suite may override ----------------------------------------------

    def look(self, target: Target, dag: Dag, check: Check, layout: DagLayout | None = None) -> Observation:
        """Observe `dag`, expected under LABEL."""
        root = dag.layout.root
        inventory = target.observe([Expected(root, (LABEL,), layout=layout)], check, MARK, QUIET)
        assert list(inventory.observations) == [root]
        return inventory.observations[root]

    def settled(self, target: Target, dag: Dag, check: Check, wanted: State = State.HELD) -> Observation:
        """Observe `dag` until its state is `wanted`, for at most settle_seconds."""
        deadline = time.monotonic() + self.settle_seconds
        while (seen := self.look(target, dag, check)).state is not wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        return seen

    def deliver(self, subject: Subject, dag: Dag, label: str = LABEL) -> Delivery:
        """Publish or pin `dag`, as the target supports, and wait until it is held."""
        target = subject.target
        if target.capabilities.takes_bytes:
            delivery = target.publish(dag, label, QUIET)
        else:
            delivery = target.pin(dag.layout.root, label, subject.serve(dag))
        seen = self.settled(target, dag, Check.QUICK)
        assert (seen.state, seen.detail) == (State.HELD, "")
        return delivery

    def victims(self, layout: DagLayout, damage: Damage) -> list[Cid]:
        """Return the blocks of the 1,025-leaf file that `damage` makes bad."""
        tree = layout.tree_positions()
        leaf = next(position for position in range(500, len(layout)) if layout.is_leaf(position))
        if damage is Damage.ALL_LOST:
            return [block.cid for block in layout]
        return [layout.cid({Damage.LOST_ROOT: tree[0], Damage.LOST_INNER: tree[1]}.get(damage, leaf))]

    def repair_bytes(self, layout: DagLayout, victims: Sequence[Cid]) -> int:
        """Return the maximum of bytes that a repair of `victims` may send."""
        sizes = {block.cid: block.size for block in layout}
        needed = {*victims, *(layout.cid(position) for position in layout.tree_positions())}
        return sum(sizes[cid] for cid in needed) + self.repair_slack * max(sizes.values())

    def assert_reads_back(
        self, target: Target, dag: MemoryDag, repaired: Sequence[Cid] | None = None
    ) -> None:
        """Check that the target serves every block in the right order, if it serves blocks.

        With `repaired`, check these blocks and a sample of the others.
        """
        if not target.capabilities.serves_blocks:
            return
        with closing(target.dag(dag.layout.root)) as served:
            assert list(served.layout) == list(dag.layout)
            for position in range(len(served.layout)):
                if repaired is not None and position % 32 and dag.layout.cid(position) not in repaired:
                    continue
                assert served.read(position) == dag.read(position)

    @pytest.fixture
    def target(self, subject: Subject) -> Target:
        return subject.target

    @pytest.fixture
    def salt(self, request: pytest.FixtureRequest) -> str:
        """Return a salt for content of this test alone, so that tests may share one daemon."""
        return request.node.nodeid

    # -- publishing -----------------------------------------------------------------------------------------

    def test_an_unpublished_root_is_absent(self, subject: Subject, salt: str) -> None:
        before = subject.snapshot()
        for check in Check:
            assert self.look(subject.target, bundle(salt), check).state is State.ABSENT
        assert subject.snapshot() == before

    def test_a_published_dag_is_held_at_every_depth(self, subject: Subject, shape: str, salt: str) -> None:
        dag = SHAPES[shape](salt)
        self.deliver(subject, dag)
        for check in Check:
            seen = self.look(subject.target, dag, check)
            assert (seen.state, seen.damaged, seen.detail) == (State.HELD, (), "")
            assert seen.labels == ((LABEL,) if subject.target.capabilities.keeps_labels else ())
            assert seen.checked

    def test_publish_says_what_it_sent(self, subject: Subject, target: Target, salt: str) -> None:
        dag = bundle(salt)
        if not target.capabilities.takes_bytes:
            with pytest.raises(UnsupportedError):
                target.publish(dag, LABEL, QUIET)
            return
        delivery = target.publish(dag, LABEL, QUIET)
        assert (delivery.bytes_sent, delivery.blocks_sent) == (dag.layout.size, len(dag.layout))

    def test_publish_again_changes_nothing(self, subject: Subject, salt: str) -> None:
        dag = bundle(salt)
        self.deliver(subject, dag)
        before = subject.snapshot()
        again = self.deliver(subject, dag)
        assert again.bytes_sent == again.blocks_sent == 0
        assert subject.snapshot() == before

    def test_observing_changes_nothing(self, subject: Subject, salt: str) -> None:
        dag = bundle(salt)
        self.deliver(subject, dag)
        before = subject.snapshot()
        for check in Check:
            self.look(subject.target, dag, check)
        assert subject.snapshot() == before

    def test_what_was_published_reads_back_equal(self, subject: Subject, shape: str, salt: str) -> None:
        dag = SHAPES[shape](salt)
        self.deliver(subject, dag)
        self.assert_reads_back(subject.target, dag)

    # -- leaves before the root -----------------------------------------------------------------------------

    def begin(self, target: Target, dag: Dag, salt: str) -> IngestSession | None:
        """Begin a session for `dag` on a target that takes leaves, None on others."""
        key = hashlib.sha256(salt.encode()).hexdigest()
        return target.ingest(dag.layout, LABEL, key) if isinstance(target, Ingests) else None

    def test_leaves_that_came_before_the_root_are_not_read_again(
        self, subject: Subject, target: Target, salt: str
    ) -> None:
        dag = bundle(salt)
        session = self.begin(target, dag, salt)
        if session is None:
            return
        leaves = leaves_of(dag)
        session.put(leaves)
        assert self.look(target, dag, Check.QUICK).state is State.ABSENT
        dag.reads = 0
        delivery = session.finish(dag, QUIET)
        assert delivery.state in (State.HELD, State.PENDING)
        assert dag.reads <= len(dag.layout.tree_positions()) + 1  # a cluster gets the empty file again
        assert delivery.bytes_sent >= sum(len(leaf.data) for leaf in leaves)
        assert self.settled(target, dag, Check.FULL).labels == (LABEL,)
        self.assert_reads_back(target, dag)

    def test_a_session_has_what_an_interrupted_one_left_and_reads_the_rest(
        self, subject: Subject, target: Target, salt: str
    ) -> None:
        dag = bundle(salt)
        leaves = leaves_of(dag)
        first = self.begin(target, dag, salt)
        if first is None:
            return
        first.put(leaves[::2])
        first.abandon()
        second = self.begin(target, dag, salt)
        assert second is not None
        for number, leaf in enumerate(leaves):
            if not leaf.data:  # the empty file is everywhere
                continue
            held = second.held(leaf.position, leaf.cid)
            assert held == (leaf.data if number % 2 == 0 else None)
        assert second.finish(dag, QUIET).state in (State.HELD, State.PENDING)
        assert self.settled(target, dag, Check.FULL).state is State.HELD

    def test_an_abandoned_session_leaves_nothing_that_is_held(
        self, subject: Subject, target: Target, salt: str
    ) -> None:
        dag = bundle(salt)
        session = self.begin(target, dag, salt)
        if session is None:
            return
        session.put(leaves_of(dag))
        session.abandon()
        assert self.look(target, dag, Check.FULL).state is State.ABSENT
        self.deliver(subject, dag)

    def kept_part(self, dag: Dag, salt: str, leaves: Sequence[IngestedBlock]) -> PartDag:
        """Return the part of a version that has `leaves`."""
        by_position = {leaf.position: leaf for leaf in leaves}
        blocks = {position: Block(leaf.cid, len(leaf.data)) for position, leaf in by_position.items()}
        key = hashlib.sha256(salt.encode()).hexdigest()
        return PartDag(key, blocks, lambda position: by_position[position].data)

    def test_parts_from_several_sessions_make_one_version(
        self, subject: Subject, target: Target, salt: str
    ) -> None:
        """Parts are kept until then, and nothing of them is left after it."""
        dag = bundle(salt)
        key = hashlib.sha256(salt.encode()).hexdigest()
        leaves = leaves_of(dag)
        for number in (1, 2):
            session = self.begin(target, dag, salt)
            if session is None or not isinstance(target, Ingests):
                assert not target.capabilities.keeps_parts
                return
            mine = leaves[number - 1 :: 2]
            assert target.parts(LABEL, key) == {Part(other, 2) for other in range(1, number)}
            session.put(mine)
            part = self.kept_part(dag, salt, mine)
            assert session.keep(part, Part(number, 2), QUIET).state in (State.HELD, State.PENDING)
            assert target.parts(LABEL, key) == {Part(other, 2) for other in range(1, number + 1)}
            assert target.parts(LABEL, "0" * 64) == frozenset()
            assert self.look(target, dag, Check.QUICK).state is State.ABSENT
        last = self.begin(target, dag, salt)
        assert last is not None
        kept = last.kept()
        for leaf in leaves:
            assert kept.get(leaf.position, leaf.cid) == leaf.cid
            assert last.held(leaf.position, kept.get(leaf.position)) == leaf.data
        dag.reads = 0
        assert last.finish(dag, QUIET).state in (State.HELD, State.PENDING)
        assert dag.reads <= len(dag.layout.tree_positions()) + 1
        assert self.settled(target, dag, Check.FULL).state is State.HELD
        assert target.parts(LABEL, key) == frozenset()
        owned = target.observe([], Check.QUICK, MARK, QUIET).owned
        assert [pin for pin in owned if "#" in pin.label] == []

    def test_a_part_that_was_kept_may_be_kept_again(
        self, subject: Subject, target: Target, salt: str
    ) -> None:
        dag = bundle(salt)
        leaves = leaves_of(dag)[:2]
        for _ in range(2):
            session = self.begin(target, dag, salt)
            if session is None:
                return
            session.put(leaves)
            part = self.kept_part(dag, salt, leaves)
            assert session.keep(part, Part(1, 2), QUIET).state in (State.HELD, State.PENDING)

    def test_one_observe_tells_many_roots_apart(self, subject: Subject, salt: str) -> None:
        held = [bundle(f"{salt}{number}") for number in range(3)]
        absent = large_file(salt)
        for number, dag in enumerate(held):
            self.deliver(subject, dag, Label(f"{MARK}model@2.0.{number}"))
        expected = [Expected(dag.layout.root, (LABEL,)) for dag in (*held, absent)]
        inventory = subject.target.observe(expected, Check.QUICK, MARK, QUIET)
        states = {root: seen.state for root, seen in inventory.observations.items()}
        assert states == {dag.layout.root: State.HELD for dag in held} | {absent.layout.root: State.ABSENT}
        if not subject.target.capabilities.keeps_labels:
            assert inventory.owned == ()
            return
        assert {Pin(dag.layout.root, f"{MARK}model@2.0.{number}") for number, dag in enumerate(held)} <= set(
            inventory.owned
        )

    def test_what_was_published_is_owned_whether_expected_or_not(self, subject: Subject, salt: str) -> None:
        dag = bundle(salt)
        self.deliver(subject, dag)
        inventory = subject.target.observe([], Check.QUICK, MARK, QUIET)
        if not subject.target.capabilities.keeps_labels:
            assert inventory.owned == ()
            assert Pin(dag.layout.root, "") in inventory.foreign
            return
        assert Pin(dag.layout.root, LABEL) in inventory.owned
        assert Pin(dag.layout.root, LABEL) not in inventory.foreign

    # -- interruption ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("after", [0, 1, 20])
    def test_a_source_that_changes_leaves_nothing_wrong(
        self, subject: Subject, target: Target, salt: str, after: int
    ) -> None:
        dag = bundle(salt)
        if not target.capabilities.takes_bytes:
            return
        with pytest.raises(SourceChangedError):
            target.publish(Failing(dag, after), LABEL, QUIET)
        assert self.look(target, dag, Check.QUICK).state is not State.HELD
        delivery = target.publish(dag, LABEL, QUIET)
        assert self.settled(target, dag, Check.FULL).state is State.HELD
        if self.resumes and after > 1:
            assert delivery.bytes_sent < dag.layout.size
        else:
            assert delivery.bytes_sent <= dag.layout.size

    # -- damage and repair ----------------------------------------------------------------------------------

    def test_damage_is_seen_repaired_and_then_gone(self, subject: Subject, damage: Damage, salt: str) -> None:
        dag = large_file(salt)
        self.deliver(subject, dag)
        victims = self.victims(dag.layout, damage)
        subject.damage(dag, damage, victims[0])
        checks = list(Check)
        for check in checks[checks.index(self.seen_at[damage]) :]:
            for layout in (dag.layout, None):
                seen = self.look(subject.target, dag, check, layout)
                assert seen.state is State.PARTIAL, check
                assert seen.detail
                assert set(seen.damaged) <= set(victims)
        seen = self.look(subject.target, dag, Check.FULL, dag.layout)
        if damage not in self.vague:
            assert set(seen.damaged) == set(victims)
        delivery = subject.target.repair(dag, seen.damaged, LABEL, QUIET)
        assert delivery.bytes_sent <= self.repair_bytes(dag.layout, victims)
        after = self.settled(subject.target, dag, Check.FULL)
        assert (after.state, after.damaged) == (State.HELD, ())
        self.assert_reads_back(subject.target, dag, repaired=victims)

    def test_a_repair_of_something_healthy_changes_nothing(self, subject: Subject, salt: str) -> None:
        dag = bundle(salt)
        self.deliver(subject, dag)
        if not subject.target.capabilities.takes_bytes:
            return
        before = subject.snapshot()
        assert subject.target.repair(dag, (), LABEL, QUIET).bytes_sent == 0
        assert subject.snapshot() == before

    def test_a_repair_without_the_lost_block_is_not_called_held(
        self, subject: Subject, damage: Damage, salt: str
    ) -> None:
        dag = large_file(salt)
        self.deliver(subject, dag)
        victims = self.victims(dag.layout, damage)
        subject.damage(dag, damage, victims[0])
        donor = Without(dag, [dag.layout.find(cid) or 0 for cid in victims])
        try:
            delivery = subject.target.repair(donor, victims, LABEL, QUIET)
        except (BlockUnavailableError, PeerError):
            pass
        else:
            assert delivery.state is not State.HELD
        assert self.look(subject.target, dag, Check.FULL).state is State.PARTIAL
        subject.target.repair(dag, victims, LABEL, QUIET)
        assert self.settled(subject.target, dag, Check.FULL).state is State.HELD

    def test_repairing_one_root_leaves_its_sibling_alone(
        self, subject: Subject, damage: Damage, salt: str
    ) -> None:
        dag, sibling = large_file(salt), bundle(salt)
        self.deliver(subject, sibling, OTHER_LABEL)
        self.deliver(subject, dag)
        victims = self.victims(dag.layout, damage)
        subject.damage(dag, damage, victims[0])
        labels = (OTHER_LABEL,) if subject.target.capabilities.keeps_labels else ()
        seen = self.look(subject.target, sibling, Check.FULL)
        assert (seen.state, seen.labels) == (State.HELD, labels)
        subject.target.repair(dag, victims, LABEL, QUIET)
        seen = self.settled(subject.target, sibling, Check.FULL)
        assert (seen.state, seen.labels) == (State.HELD, labels)

    # -- labels ---------------------------------------------------------------------------------------------

    def test_a_label_is_changed_without_bytes(self, subject: Subject, target: Target, salt: str) -> None:
        dag = bundle(salt)
        self.deliver(subject, dag)
        if not target.capabilities.keeps_labels:
            with pytest.raises(UnsupportedError):
                target.relabel(dag.layout.root, OTHER_LABEL)
            return
        target.relabel(dag.layout.root, OTHER_LABEL)
        target.relabel(dag.layout.root, OTHER_LABEL)
        labels = (OTHER_LABEL,) if target.capabilities.one_label else (LABEL, OTHER_LABEL)
        seen = self.settled(target, dag, Check.FULL)
        assert (seen.state, seen.labels) == (State.HELD, labels)
        if not target.capabilities.one_label:
            target.unpin(dag.layout.root, LABEL)
        assert self.settled(target, dag, Check.QUICK).labels == (OTHER_LABEL,)
        target.unpin(dag.layout.root, OTHER_LABEL)
        assert self.settled(target, dag, Check.QUICK, State.ABSENT).state is State.ABSENT

    def test_publish_under_another_label_of_ours_leaves_that_label(
        self, subject: Subject, target: Target, salt: str
    ) -> None:
        if not target.capabilities.takes_bytes or not target.capabilities.keeps_labels:
            return
        dag = bundle(salt)
        self.deliver(subject, dag)
        target.publish(dag, OTHER_LABEL, QUIET)
        labels = (OTHER_LABEL,) if target.capabilities.one_label else (LABEL, OTHER_LABEL)
        assert self.settled(target, dag, Check.QUICK).labels == labels

    def test_a_foreign_pin_is_adopted_only_as_it_was_seen(
        self, subject: Subject, target: Target, salt: str
    ) -> None:
        dag = bundle(salt)
        subject.pin_as_stranger(dag, STRANGER_LABEL)
        with pytest.raises(PeerError):
            target.adopt(Pin(dag.layout.root, FOREIGN_LABEL), LABEL)
        if not target.capabilities.keeps_labels:
            return
        assert self.settled(target, dag, Check.QUICK).labels == (STRANGER_LABEL,)
        target.adopt(Pin(dag.layout.root, STRANGER_LABEL), LABEL)
        labels = set(self.settled(target, dag, Check.FULL).labels)
        assert LABEL in labels
        assert labels <= {LABEL, STRANGER_LABEL}  # the foreign label may stay until ours is confirmed

    def test_unpin_may_be_repeated_and_may_miss(self, subject: Subject, salt: str) -> None:
        dag = single_leaf(salt)
        if not subject.target.capabilities.keeps_labels:
            self.deliver(subject, dag)
            with pytest.raises(UnsupportedError):
                subject.target.unpin(dag.layout.root, LABEL)
            assert self.look(subject.target, dag, Check.QUICK).state is State.HELD
            return
        subject.target.unpin(dag.layout.root, LABEL)
        self.deliver(subject, dag)
        subject.target.unpin(dag.layout.root, OTHER_LABEL)
        assert self.settled(subject.target, dag, Check.QUICK).state is State.HELD
        for _ in range(2):
            subject.target.unpin(dag.layout.root, LABEL)
            assert self.settled(subject.target, dag, Check.QUICK, State.ABSENT).state is State.ABSENT
        assert Pin(dag.layout.root, LABEL) not in subject.target.observe([], Check.QUICK, MARK, QUIET).owned

    def test_what_was_unpinned_can_be_published_again(self, subject: Subject, salt: str) -> None:
        dag = bundle(salt)
        self.deliver(subject, dag)
        if subject.target.capabilities.keeps_labels:
            subject.target.unpin(dag.layout.root, LABEL)
        self.deliver(subject, dag)
        assert self.settled(subject.target, dag, Check.FULL).state is State.HELD

    def test_roots_that_share_blocks_do_not_depend_on_each_other(self, subject: Subject, salt: str) -> None:
        one, other = twins(salt)
        self.deliver(subject, one)
        self.deliver(subject, other, OTHER_LABEL)
        if subject.target.capabilities.keeps_labels:
            subject.target.unpin(one.layout.root, LABEL)
            assert self.settled(subject.target, one, Check.QUICK, State.ABSENT).state is State.ABSENT
        assert self.settled(subject.target, other, Check.FULL).state is State.HELD
        self.assert_reads_back(subject.target, other)

    # -- others ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("label", [FOREIGN_LABEL, STRANGER_LABEL])
    def test_what_others_keep_is_listed_and_never_touched(
        self, subject: Subject, salt: str, label: str
    ) -> None:
        theirs, ours = bundle(f"{salt}theirs"), bundle(salt)
        subject.pin_as_stranger(theirs, label)
        self.deliver(subject, ours)
        if not subject.target.capabilities.keeps_labels:
            listed = subject.target.observe([Expected(ours.layout.root, (LABEL,))], Check.QUICK, MARK, QUIET)
            assert (listed.owned, Pin(theirs.layout.root, "") in listed.foreign) == ((), True)
            return
        subject.target.unpin(theirs.layout.root, LABEL)
        subject.target.unpin(ours.layout.root, LABEL)
        self.settled(subject.target, ours, Check.QUICK, State.ABSENT)
        inventory = subject.target.observe([], Check.QUICK, MARK, QUIET)
        assert Pin(theirs.layout.root, label) in inventory.foreign
        assert Pin(theirs.layout.root, label) not in inventory.owned
        seen = self.settled(subject.target, theirs, Check.FULL)
        assert (seen.state, seen.labels) == (State.HELD, (label,))

    def test_a_root_kept_for_two_indexes_outlives_the_first_unpin(
        self, subject: Subject, target: Target, salt: str
    ) -> None:
        dag = bundle(salt)
        subject.pin_as_stranger(dag, FOREIGN_LABEL)
        if not target.capabilities.keeps_labels:
            assert self.deliver(subject, dag).bytes_sent == 0
            return
        if target.capabilities.one_label:  # then the foreign label stays, whatever we request
            target.unpin(dag.layout.root, LABEL)
        else:
            self.deliver(subject, dag)
            assert set(self.settled(target, dag, Check.QUICK).labels) == {LABEL, FOREIGN_LABEL}
            target.unpin(dag.layout.root, LABEL)
        seen = self.settled(target, dag, Check.FULL)
        assert (seen.state, seen.labels) == (State.HELD, (FOREIGN_LABEL,))

    # -- abilities ------------------------------------------------------------------------------------------

    def test_an_unreachable_target_is_unknown_not_absent(self, subject: Subject, salt: str) -> None:
        dag = single_leaf(salt)
        self.deliver(subject, dag)
        subject.make_unreachable()
        for check in Check:
            with pytest.raises(PeerError):
                subject.target.observe([Expected(dag.layout.root, (LABEL,))], check, MARK, QUIET)

    def test_what_it_cannot_do_it_refuses(self, target: Target, salt: str) -> None:
        dag = single_leaf(salt)
        if not target.capabilities.takes_bytes:
            with pytest.raises(UnsupportedError):
                target.repair(dag, (), LABEL, QUIET)
        if not target.capabilities.pins_by_cid:
            with pytest.raises(UnsupportedError):
                target.pin(dag.layout.root, LABEL, ())
        if not target.capabilities.serves_blocks:
            with pytest.raises(UnsupportedError):
                target.dag(dag.layout.root)

    def test_a_root_that_is_not_there_cannot_be_read(self, target: Target, salt: str) -> None:
        if target.capabilities.serves_blocks:
            with pytest.raises(BlockUnavailableError):
                target.dag(bundle(salt).layout.root)

    def test_origins_are_multiaddrs_of_a_peer(self, target: Target) -> None:
        assert all(origin.startswith("/") and "/p2p/" in origin for origin in target.origins())

    def test_closing_twice_is_fine(self, target: Target) -> None:
        target.close()
        target.close()


#: the tests that need a visible kind of damage, in order: all workers must collect the same tests
DAMAGE_TESTS = tuple(
    name for name, test in vars(TargetSuite).items() if "damage" in getattr(test, "__annotations__", {})
)
