"""A root under a pin of somebody else is borrowed: shown, explained, and pinned by us where possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.loop.borrowed import describe_owner
from reconciler.targets.interface import Capabilities, State
from tests.support.memory_target import MemoryTarget
from tests.support.releases import Releases, kinds, with_memory

THEIRS = "reconciler/acme-a/m@1.0.0"


def borrowing(tmp_path: Path, *names: str, label: str = THEIRS) -> Releases:
    """A version that target `a` holds under `label` only."""
    releases = with_memory(tmp_path, *(names or ("a",)))
    releases.memory["a"] = MemoryTarget("a", Capabilities(one_label=True))
    releases.add("m@1.0.0")
    releases.apply()
    releases.memory["a"].held[releases.cid("m@1.0.0")].labels = [label] if label else []
    return releases


@pytest.mark.parametrize(
    ("label", "owner"),
    [
        (THEIRS, "the pin of index 'acme-a' (m@1.0.0)"),
        ("backups 2019", "a pin named 'backups 2019' that is not ours"),
        ("reconciler/", "a pin named 'reconciler/' that is not ours"),
        ("", "a pin without a name that is not ours"),
        ("reconciler/put/x", "a pin of `reconcile put` ('reconciler/put/x')"),
        ("reconciler/import/x", "a pin of `reconcile import` ('reconciler/import/x')"),
    ],
)
def test_plan_and_status_name_the_owner_and_change_nothing(tmp_path: Path, label: str, owner: str) -> None:
    releases = borrowing(tmp_path, label=label)
    plan = releases.plan()
    assert (kinds(plan), plan.in_sync) == ([], 1)
    (note,) = [note for note in plan.notes if "borrowed" in note]
    assert note.startswith(f"m@1.0.0 on a is borrowed: held only by {owner}; ")
    assert note.endswith("when that is removed, a run that has weights/m/1.0.0 publishes it again")
    (holding,) = releases.status().holdings
    assert (holding.state, holding.in_sync) == (State.HELD, True)
    assert owner in holding.borrowed
    assert describe_owner((label,) if label else ()) == owner


def test_another_target_that_holds_it_is_named(tmp_path: Path) -> None:
    (holding, other) = borrowing(tmp_path, "a", "b").status().holdings
    assert holding.borrowed.endswith("the next run restores it from b")
    assert other.borrowed == ""


def test_without_another_source_the_bytes_may_be_lost(tmp_path: Path) -> None:
    releases = borrowing(tmp_path)
    releases.change("m@1.0.0", path=None, created_at=None)
    (holding,) = releases.status().holdings
    assert "may be lost" in holding.borrowed


def test_a_run_after_the_owner_let_go_publishes_it_under_our_label(tmp_path: Path) -> None:
    releases = borrowing(tmp_path)
    releases.memory["a"].held.clear()
    releases.apply()
    assert not releases.status().holdings[0].borrowed
    assert releases.memory["a"].held[releases.cid("m@1.0.0")].labels == ["reconciler/acme/m@1.0.0"]


@pytest.mark.parametrize("able", [Capabilities(), Capabilities(keeps_labels=False, one_label=True)])
def test_nothing_is_borrowed_where_labels_stand_side_by_side_or_do_not_exist(
    tmp_path: Path, able: Capabilities
) -> None:
    releases = borrowing(tmp_path)
    releases.memory["a"].capabilities = able
    assert not any("borrowed" in note for note in releases.plan().notes)


class HalfPinned(MemoryTarget):
    """A node that has all blocks of a root, but no pin on it that counts."""

    def __init__(self) -> None:
        super().__init__("a", Capabilities(one_label=True, keeps_unpinned=True))

    def _look(self, root, check):  # type: ignore[no-untyped-def]
        seen = super()._look(root, check)
        held = self.held.get(root)
        if held is None or held.labels:
            return seen
        return type(seen)(root, State.ABSENT, detail="pinned there only by its CIDv0")


def test_blocks_that_only_the_target_itself_has_are_pinned_from_there(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    releases.memory["a"] = node = HalfPinned()
    releases.add("m@1.0.0")
    releases.apply()
    root = releases.cid("m@1.0.0")
    releases.change("m@1.0.0", path=None, created_at=None)
    node.held[root].labels = []
    plan = releases.plan()
    assert kinds(plan) == [("publish", "m@1.0.0", "a")]
    assert "CIDv0" in plan.changes[0].reason
    report = releases.apply()
    assert not report.failed
    assert node.held[root].labels == ["reconciler/acme/m@1.0.0"]
    assert kinds(releases.plan()) == []


def test_blocks_that_are_only_partly_there_are_not_taken_for_a_source(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a")
    releases.memory["a"] = node = HalfPinned()
    releases.add("m@1.0.0")
    releases.apply()
    root = releases.cid("m@1.0.0")
    releases.change("m@1.0.0", path=None, created_at=None)
    node.held[root].labels = []
    node.lose(root)
    assert [kind for kind, *_ in kinds(releases.plan())] == ["blocked"]
