"""The suite detects violations: a target that lies or does harm in one way fails one of its tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reconciler.errors import PeerError
from reconciler.targets.interface import Check, Delivery, Inventory, State
from reconciler.targets.store import StoreTarget
from tests.conformance.targets import FOREIGN_LABEL, Damage, TargetSuite
from tests.support.dags import MemoryDag
from tests.support.store_subject import StoreSubject


class Suite(TargetSuite):
    """The suite under test, whose tests are called directly."""

    __test__ = False
    seen_at: ClassVar = {Damage.LOST_LEAF: Check.FULL}


class BelievesSizes(StoreTarget):
    def observe(self, expected, check, mark, progress) -> Inventory:
        return super().observe(expected, Check.QUICK, mark, progress)


class TakesDownForUnknown(StoreTarget):
    def observe(self, expected, check, mark, progress) -> Inventory:
        try:
            return super().observe(expected, check, mark, progress)
        except PeerError:
            return Inventory({})


class SendsEverythingAgain(StoreTarget):
    def publish(self, dag, label, progress) -> Delivery:
        self.unpin(dag.layout.root, label)
        return super().publish(dag, label, progress)


class RepairsByWritingAll(StoreTarget):
    def repair(self, dag, damaged, label, progress) -> Delivery:
        path = self._directory.car(dag.layout.root)
        path.unlink(missing_ok=True)
        return super().repair(dag, damaged, label, progress)


class RepairsNothing(StoreTarget):
    def repair(self, dag, damaged, label, progress) -> Delivery:
        return Delivery(State.HELD)


class RemovesWhatOthersKeep(StoreTarget):
    def unpin(self, root, label) -> None:
        super().unpin(root, label)
        super().unpin(root, FOREIGN_LABEL)


class CallsAllPinsOurs(StoreTarget):
    def observe(self, expected, check, mark, progress) -> Inventory:
        seen = super().observe(expected, check, mark, progress)
        return replace(seen, owned=seen.owned + seen.foreign)


class LosesTheOldLabel(StoreTarget):
    def relabel(self, root, label) -> None:
        for pin in self.observe([], Check.QUICK, "reconciler/", None).owned:
            super().relabel(root, label)
            self.unpin(root, pin.label)


class KeepsLitter(StoreTarget):
    def observe(self, expected, check, mark, progress) -> Inventory:
        (self._directory.directory / "tmp").mkdir(parents=True, exist_ok=True)
        (self._directory.directory / "tmp" / "seen").write_text("")
        return super().observe(expected, check, mark, progress)


LIARS: list[tuple[type[StoreTarget], Callable[[Suite, StoreSubject], Any]]] = [
    (BelievesSizes, lambda s, x: s.test_damage_is_seen_repaired_and_then_gone(x, Damage.LOST_LEAF, "a")),
    (
        RepairsByWritingAll,
        lambda s, x: s.test_damage_is_seen_repaired_and_then_gone(x, Damage.LOST_LEAF, "a"),
    ),
    (RepairsNothing, lambda s, x: s.test_damage_is_seen_repaired_and_then_gone(x, Damage.LOST_LEAF, "a")),
    (TakesDownForUnknown, lambda s, x: s.test_an_unreachable_target_is_unknown_not_absent(x, "a")),
    (SendsEverythingAgain, lambda s, x: s.test_publish_again_changes_nothing(x, "a")),
    (
        RemovesWhatOthersKeep,
        lambda s, x: s.test_what_others_keep_is_listed_and_never_touched(x, "a", FOREIGN_LABEL),
    ),
    (
        CallsAllPinsOurs,
        lambda s, x: s.test_what_others_keep_is_listed_and_never_touched(x, "a", FOREIGN_LABEL),
    ),
    (LosesTheOldLabel, lambda s, x: s.test_a_label_is_changed_without_bytes(x, x.target, "a")),
    (KeepsLitter, lambda s, x: s.test_observing_changes_nothing(x, "a")),
]


@pytest.mark.parametrize(("liar", "run"), LIARS, ids=[liar.__name__ for liar, _ in LIARS])
def test_the_suite_catches(tmp_path: Path, liar: type[StoreTarget], run: Callable) -> None:
    honest = StoreSubject(tmp_path / "honest")
    run(Suite(), honest)
    subject = StoreSubject(tmp_path / "liar")
    subject.target = liar("liar", subject.directory)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(Suite(), subject)


def test_a_memory_dag_is_what_the_suite_thinks_it_is() -> None:
    """The shapes have the blocks that the tests rely on."""
    from tests.support.shapes import SHAPES, large_file

    for shape in SHAPES.values():
        dag: MemoryDag = shape("salt")
        assert dag.layout.root == dag.layout.cid(0)
    large = large_file("salt").layout
    assert len(large.tree_positions()) == 3
    assert sum(large.is_leaf(position) for position in range(len(large))) == 1025
