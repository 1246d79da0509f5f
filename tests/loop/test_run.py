"""Complete runs over memory targets and stores: what is planned, done, and left unchanged."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError, SafetyError, UsageError
from reconciler.index import guarded_yaml
from reconciler.loop.changes import Blocked, Publish, Repair
from reconciler.loop.settings import Drift, ProposeMode
from reconciler.targets.interface import Capabilities, Check, State
from tests.support.memory_target import MemoryTarget, down
from tests.support.releases import Releases, kinds, states, tree, with_memory
from tests.support.store_files import harm


@pytest.fixture
def two(tmp_path: Path) -> Releases:
    """One version, wanted on two memory targets."""
    releases = with_memory(tmp_path, "a", "b")
    releases.add("m@1.0.0")
    return releases


def label(ref: str) -> str:
    return f"reconciler/acme/{ref}"


# -- the loop ------------------------------------------------------------------------------------------------


def test_a_run_publishes_writes_back_and_then_has_nothing_to_do(two: Releases) -> None:
    report = two.apply()
    assert states(report) == [
        ("publish", "m@1.0.0", "a", "applied"),
        ("publish", "m@1.0.0", "b", "applied"),
        ("resolve-cid", "m@1.0.0", None, "applied"),
        ("write-record", "m@1.0.0", None, "applied"),
    ]
    assert not report.failed
    assert (two.root / "releases/records/m/1.0.0.json").is_file()
    assert two.cid("m@1.0.0") in two.memory["a"].held
    for check in Check:
        plan = two.plan(check=check)
        assert kinds(plan) == []
        assert plan.in_sync == 2
    before = two.memory["a"].writes()
    two.apply()
    assert two.memory["a"].writes() == before


def test_a_plan_changes_nothing(two: Releases) -> None:
    two.write()
    before = tree(two.root)
    two.plan()
    assert tree(two.root) == before
    assert all(target.writes() == 0 and not target.held for target in two.memory.values())


def test_a_plan_made_twice_is_the_same(two: Releases) -> None:
    assert two.plan() == two.plan()


def test_targets_are_observed_once_a_run(two: Releases) -> None:
    for number in range(5):
        two.add(f"m@2.{number}.0")
    two.apply()
    assert two.memory["a"].calls["observe"] == 1


def test_the_index_is_read_once_a_run(two: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a proposal could be made from another text than the one that was parsed."""
    read = guarded_yaml.read
    paths: list[Path] = []
    monkeypatch.setattr(guarded_yaml, "read", lambda path, *rest: (paths.append(path), read(path, *rest))[1])
    two.write()
    with two.running() as run:
        before = two.index_file.read_bytes()
        two.index_file.write_bytes(before + b"\n")
        assert (run.workspace.index_bytes, run.plan().index_digest) == (before, run.workspace.index.digest)
        assert hashlib.sha256(before).hexdigest() == run.workspace.index.digest
    assert paths.count(two.index_file) == 1


def test_weights_are_not_read_when_nothing_is_missing(two: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    two.apply()
    monkeypatch.setattr("reconciler.loop.sources.identify", lambda *_, **__: pytest.fail("weights were read"))
    assert kinds(two.plan()) == []


def test_a_cid_is_written_only_once_a_target_holds_the_bytes(two: Releases) -> None:
    for target in two.memory.values():
        target.faults["publish"] = down(target.name)
    report = two.apply()
    assert [state for *_, state in states(report)] == ["failed", "failed", "skipped", "skipped"]
    assert "cid" not in two.index_file.read_text()
    assert not (two.root / "releases/records").exists()


def test_one_target_that_fails_stops_neither_the_other_nor_the_cid(two: Releases) -> None:
    two.memory["a"].faults["publish"] = down("a")
    report = two.apply()
    assert [state for *_, state in states(report)] == ["failed", "applied", "applied", "applied"]
    assert report.outcomes[0].hint == "check that it is running"
    assert two.cid("m@1.0.0") in two.memory["b"].held


# -- unknown is not absent -----------------------------------------------------------------------------------


def test_a_target_that_cannot_be_reached_is_unknown_and_left_alone(two: Releases) -> None:
    two.apply()
    two.memory["b"].faults["observe"] = down("b")
    plan = two.plan()
    (change,) = plan.changes
    assert isinstance(change, Blocked)
    assert change.unknown
    assert not change.drift
    assert change.hint == "check that it is running"
    report = two.apply()
    assert states(report) == [("blocked", "m@1.0.0", "b", "unknown")]
    assert report.failed
    assert two.memory["b"].calls["publish"] == 1


def test_an_operating_system_error_of_a_target_stays_its_own(two: Releases) -> None:
    two.memory["a"].faults["observe"] = OSError(5, "Input/output error")
    assert [state for *_, state in states(two.apply())] == ["unknown", "applied", "applied", "applied"]


def test_nothing_is_pruned_on_a_target_that_cannot_be_reached(two: Releases) -> None:
    two.apply()
    two.remove("m@1.0.0")
    two.add("m@2.0.0")
    two.memory["b"].faults["observe"] = down("b")
    plan = two.plan(prune=True)
    assert [c.target for c in plan.changes if c.kind == "unpin"] == ["a"]


def test_a_target_that_cannot_be_opened_is_unknown(tmp_path: Path) -> None:
    releases = Releases(tmp_path, "store", "other")
    releases.add("m@1.0.0")
    releases.apply()
    shutil.rmtree(tmp_path / ".reconcile" / "other")
    (tmp_path / ".reconcile" / "other").write_text("a file")
    assert kinds(releases.plan()) == [("blocked", "m@1.0.0", "other")]


# -- a released CID is immutable -----------------------------------------------------------------------------


def test_bytes_that_no_longer_give_the_cid_are_an_error_never_an_update(two: Releases) -> None:
    two.apply()
    (two.source("m@1.0.0") / "weights.bin").write_bytes(b"other")
    root = two.cid("m@1.0.0")
    assert kinds(two.plan()) == []  # nothing is missing, so nobody looks
    two.memory["a"].lose(root)
    two.memory["b"].lose(root)
    plan = two.plan()
    assert {change.kind for change in plan.changes} == {"blocked"}
    assert "no longer has the published CID" in plan.changes[0].reason
    two.apply()
    assert two.cid("m@1.0.0") == root


def test_a_changed_directory_is_healed_from_another_target(two: Releases) -> None:
    two.apply()
    (two.source("m@1.0.0") / "weights.bin").write_bytes(b"other")
    two.memory["a"].held.clear()
    report = two.apply()
    assert states(report) == [("blocked", "m@1.0.0", None, "blocked"), ("publish", "m@1.0.0", "a", "applied")]
    publish = report.plan.changes[1]
    assert isinstance(publish, Publish)
    assert (publish.sources, publish.size) == (("b",), None)


def test_a_record_that_names_another_cid_is_refused(two: Releases) -> None:
    two.add("m@2.0.0")
    two.apply()
    records = two.root / "releases/records/m"
    text = (records / "1.0.0.json").read_text()
    (records / "1.0.0.json").write_text(text.replace(str(two.cid("m@1.0.0")), str(two.cid("m@2.0.0"))))
    with pytest.raises(InvalidIndexError, match="in its record"):
        two.plan()


# -- healing -------------------------------------------------------------------------------------------------


def test_a_damaged_copy_is_repaired_block_by_block(two: Releases) -> None:
    two.apply()
    target, root = two.memory["a"], two.cid("m@1.0.0")
    leaf = next(block.cid for block in target.held[root].layout if block.size == 70)
    target.corrupt(root, leaf)
    assert kinds(two.plan()) == []
    plan = two.plan(check=Check.FULL)
    (change,) = plan.changes
    assert isinstance(change, Repair)
    assert (change.damaged, change.sources, change.drift) == ((leaf,), ("directory",), True)
    (outcome,) = two.apply(check=Check.FULL).outcomes
    assert (outcome.state, outcome.blocks_sent, outcome.bytes_sent) == ("applied", 1, 70)
    assert two.memory["b"].calls["repair"] == 0
    assert kinds(two.plan(check=Check.FULL)) == []


def test_two_half_damaged_targets_heal_each_other_without_the_directory(two: Releases) -> None:
    two.apply()
    root = two.cid("m@1.0.0")
    first, *_, last = two.memory["a"].held[root].layout
    two.memory["a"].lose(root, first.cid)
    two.memory["b"].lose(root, last.cid)
    shutil.rmtree(two.source("m@1.0.0"))
    report = two.apply()
    assert [o.state for o in report.outcomes] == ["applied", "applied"]
    assert kinds(two.plan(check=Check.FULL)) == []


def test_two_half_damaged_stores_heal_each_other_without_the_directory(tmp_path: Path) -> None:
    releases = Releases(tmp_path, "one", "two")
    releases.add("m@1.0.0", {f"{n}.bin": bytes([n]) * 5000 for n in range(8)})
    releases.apply()
    root = releases.cid("m@1.0.0")
    cars = [tmp_path / ".reconcile" / name / "cars" / f"{root}.car" for name in ("one", "two")]
    whole = cars[0].read_bytes()
    harm(cars[0], len(whole) // 4, b"harm")
    harm(cars[1], len(whole) * 3 // 4, b"harm")
    shutil.rmtree(releases.source("m@1.0.0"))
    assert kinds(releases.plan(check=Check.FULL)) == [
        ("repair", "m@1.0.0", "one"),
        ("repair", "m@1.0.0", "two"),
    ]
    assert not releases.apply(check=Check.FULL).failed
    assert [car.read_bytes() for car in cars] == [whole, whole]
    assert kinds(releases.plan(check=Check.FULL)) == []


def test_blocks_lost_everywhere_block_the_plan_with_a_hint(two: Releases) -> None:
    two.apply()
    root = two.cid("m@1.0.0")
    block = two.memory["a"].held[root].layout.cid(1)
    two.memory["a"].lose(root, block)
    two.memory["b"].lose(root, block)
    shutil.rmtree(two.source("m@1.0.0"))
    plan = two.plan()
    assert kinds(plan) == [("blocked", "m@1.0.0", "a"), ("blocked", "m@1.0.0", "b")]
    assert all(
        isinstance(c, Blocked) and "missing everywhere" in c.reason and "--source-root" in c.hint
        for c in plan.changes
    )


def test_an_unlisted_holder_is_the_source_when_no_other_has_the_bytes(two: Releases) -> None:
    two.apply()
    two.change("m@1.0.0", targets=["a"])
    two.memory["a"].held.clear()
    shutil.rmtree(two.source("m@1.0.0"))
    report = two.apply()
    assert states(report) == [("publish", "m@1.0.0", "a", "applied")]
    change = report.plan.changes[0]
    assert isinstance(change, Publish)
    assert change.sources == ("b",)


def test_an_unlisted_holder_replaces_a_changed_directory_too(two: Releases) -> None:
    two.apply()
    two.change("m@1.0.0", targets=["a"])
    two.memory["a"].held.clear()
    (two.source("m@1.0.0") / "weights.bin").write_bytes(b"other")
    assert ("publish", "m@1.0.0", "a", "applied") in states(two.apply())


def test_a_target_that_serves_no_blocks_is_no_source(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a", "b")
    releases.memory["b"] = MemoryTarget("b", Capabilities(serves_blocks=False))
    releases.add("m@1.0.0")
    releases.apply()
    releases.memory["a"].held.clear()
    shutil.rmtree(releases.source("m@1.0.0"))
    assert kinds(releases.plan()) == [("blocked", "m@1.0.0", "a")]


def test_a_new_target_in_the_index_is_filled_from_an_old_one(two: Releases) -> None:
    two.change("m@1.0.0", targets=["a"])
    two.apply()
    two.change("m@1.0.0", targets=["a", "b"])
    shutil.rmtree(two.source("m@1.0.0"))
    assert states(two.apply()) == [("publish", "m@1.0.0", "b", "applied")]


# -- pins and waiting ----------------------------------------------------------------------------------------


def test_a_target_that_fetches_is_given_the_addresses_of_the_others_after_they_have_the_bytes(
    tmp_path: Path,
) -> None:
    releases = with_memory(tmp_path, "pinner", "node")
    node = releases.memory["node"]
    pinner = MemoryTarget("pinner", Capabilities(takes_bytes=False, pins_by_cid=True, serves_blocks=False))
    releases.memory["pinner"] = pinner
    pinner.faults["pin"] = lambda: pinner.network.update({root: node.dag(root) for root in node.held})
    releases.add("m@1.0.0")
    report = releases.apply()
    assert states(report)[:2] == [
        ("pin", "m@1.0.0", "pinner", "applied"),
        ("publish", "m@1.0.0", "node", "applied"),
    ]
    assert kinds(releases.plan()) == []


def test_a_pending_version_is_no_failure_and_is_not_published_again(tmp_path: Path) -> None:
    releases = with_memory(tmp_path, "a", "slow")
    releases.add("m@1.0.0")
    releases.change("m@1.0.0", targets=["a"])
    releases.apply()
    releases.change("m@1.0.0", targets=["a", "slow"])
    slow = releases.memory["slow"]
    slow.pending.add(releases.cid("m@1.0.0"))
    report = releases.apply()
    assert states(report) == [("wait", "m@1.0.0", "slow", "waiting")]
    assert not report.failed
    assert not report.plan.pending
    assert slow.writes() == 0


# -- drift ---------------------------------------------------------------------------------------------------


def damaged(two: Releases) -> Releases:
    """A published version that one target lost, and a new one."""
    two.apply()
    two.memory["a"].held.clear()
    two.add("m@2.0.0")
    return two


def test_drift_report_shows_and_does_not_touch(two: Releases) -> None:
    report = damaged(two).apply(drift=Drift.REPORT)
    assert ("publish", "m@1.0.0", "a", "reported") in states(report)
    assert ("publish", "m@2.0.0", "a", "applied") in states(report)
    assert not report.failed
    assert two.cid("m@1.0.0") not in two.memory["a"].held


def test_drift_report_does_not_count_a_record_that_waits_for_it_as_a_failure(two: Releases) -> None:
    two.apply()
    shutil.rmtree(two.root / "releases/records")
    two.memory["a"].held.clear()
    two.memory["b"].held.clear()
    report = two.apply(drift=Drift.REPORT)
    assert {o.state for o in report.outcomes} == {"reported"}
    assert not report.failed


def test_drift_ignore_leaves_it_out_and_says_how_much(two: Releases) -> None:
    plan = damaged(two).plan(drift=Drift.IGNORE)
    assert {c.ref for c in plan.changes} == {"m@2.0.0"}
    assert any("1 changes that are drift were left out" in note for note in plan.notes)


def test_drift_ignore_does_not_hide_a_target_that_is_down(two: Releases) -> None:
    two.apply()
    two.memory["a"].faults["observe"] = down("a")
    assert kinds(two.plan(drift=Drift.IGNORE)) == [("blocked", "m@1.0.0", "a")]


# -- shared roots, renames, moves, retirement ----------------------------------------------------------------


def shared(two: Releases) -> Releases:
    """Two versions with one CID."""
    two.apply()
    two.add("m@1.0.1", cid=str(two.cid("m@1.0.0")))
    return two


def test_versions_that_share_a_root_are_in_sync_with_one_copy(two: Releases) -> None:
    plan = shared(two).plan()
    assert kinds(plan) == []
    assert plan.in_sync == 4


def test_a_shared_root_is_published_once(two: Releases) -> None:
    shared(two)
    two.memory["a"].held.clear()
    plan = two.plan()
    assert kinds(plan) == [("publish", "m@1.0.0", "a")]
    assert plan.in_sync == 2
    two.apply()
    assert kinds(two.plan()) == []


def test_a_shared_root_is_repaired_from_the_version_that_has_its_bytes(tmp_path: Path) -> None:
    """The order of its versions in the index does not matter."""
    releases = with_memory(tmp_path, "a")
    releases.add("m@1.0.0")
    releases.apply()
    root = releases.cid("m@1.0.0")
    releases.add("k@1.0.0", cid=str(root))
    releases.memory["a"].lose(root, root)
    for order in (("k", "m"), ("m", "k")):
        releases.fields = {model: releases.fields[model] for model in order}
        assert kinds(releases.plan()) == [("repair", "m@1.0.0", "a")]


def test_a_shared_root_outlives_the_first_of_its_versions(two: Releases) -> None:
    shared(two).remove("m@1.0.0")
    report = two.apply(prune=True)
    assert {(kind, state) for kind, _, _, state in states(report)} == {
        ("relabel", "applied"),
        ("unpin", "applied"),
    }
    held = two.memory["a"].held[two.cid("m@1.0.1")]
    assert held.labels == [label("m@1.0.1")]
    assert kinds(two.plan(prune=True)) == []


def test_a_shared_root_stays_where_only_the_other_version_is_still_wanted(two: Releases) -> None:
    shared(two).change("m@1.0.0", targets=["a"])
    two.apply(prune=True)
    root = two.cid("m@1.0.1")
    assert two.memory["b"].held[root].labels == [label("m@1.0.1")]
    assert kinds(two.plan(prune=True)) == []


@pytest.mark.parametrize("one_label", [False, True])
def test_a_renamed_version_is_relabelled_without_bytes(tmp_path: Path, one_label: bool) -> None:
    releases = with_memory(tmp_path, "a")
    target = releases.memory["a"] = MemoryTarget("a", Capabilities(one_label=one_label))
    releases.add("m@1.0.0")
    releases.apply()
    releases.rename("m@1.0.0", "new@1.0.0")
    root = releases.cid("m@1.0.0")
    report = releases.apply(prune=True, drift=Drift.REPORT)
    assert not report.failed
    assert target.held[root].labels == [label("new@1.0.0")]
    assert target.calls["publish"] == 1
    assert kinds(releases.plan(prune=True)) == []


def test_the_old_label_goes_only_when_the_new_one_is_there(two: Releases) -> None:
    two.apply()
    two.rename("m@1.0.0", "new@1.0.0")
    two.memory["a"].faults["relabel"] = down("a")
    report = two.apply(prune=True)
    assert ("unpin", "m@1.0.0", "a", "skipped") in states(report)
    assert two.memory["a"].held


def test_a_narrowed_run_does_not_remove_what_an_unselected_version_needs(two: Releases) -> None:
    """The label belongs to a removed version; another version, not selected, wants the same root."""
    two.apply()
    two.rename("m@1.0.0", "new@1.0.0")
    two.add("m@2.0.0")
    assert [c for c in two.plan(prune=True, only=("m",)).changes if c.kind == "unpin"] == []


class TestMove:
    """Move a version to the other target without its directory: the old copy is the only one."""

    @pytest.fixture
    def moved(self, two: Releases) -> Releases:
        two.change("m@1.0.0", targets=["a"])
        two.apply()
        two.change("m@1.0.0", targets=["b"])
        shutil.rmtree(two.source("m@1.0.0"))
        return two

    def test_the_old_copy_goes_after_the_new_one_is_there(self, moved: Releases) -> None:
        assert states(moved.apply(prune=True)) == [
            ("publish", "m@1.0.0", "b", "applied"),
            ("unpin", "m@1.0.0", "a", "applied"),
        ]
        assert not moved.memory["a"].held
        assert kinds(moved.plan(prune=True)) == []

    def test_the_old_copy_stays_when_the_new_place_cannot_be_reached(self, moved: Releases) -> None:
        moved.memory["b"].faults["observe"] = down("b")
        report = moved.apply(prune=True)
        assert states(report) == [("blocked", "m@1.0.0", "b", "unknown")]
        assert moved.memory["a"].held

    def test_the_old_copy_stays_when_the_delivery_fails(self, moved: Releases) -> None:
        moved.memory["b"].faults["publish"] = down("b")
        report = moved.apply(prune=True)
        assert [state for *_, state in states(report)] == ["failed", "skipped"]
        assert moved.memory["a"].held

    def test_the_old_copy_stays_while_the_delivery_is_on_its_way(self, moved: Releases) -> None:
        moved.memory["b"].faults["publish"] = lambda: moved.memory["b"].pending.add(moved.cid("m@1.0.0"))
        report = moved.apply(prune=True)
        assert [state for *_, state in states(report)] == ["waiting", "waiting"]
        assert not report.failed
        assert moved.memory["a"].held

    @pytest.mark.parametrize("drift", [Drift.REPORT, Drift.IGNORE])
    def test_the_old_copy_stays_when_drift_is_not_repaired(self, moved: Releases, drift: Drift) -> None:
        assert not moved.apply(prune=True, drift=drift).failed
        assert moved.memory["a"].held

    def test_the_old_copy_stays_when_the_new_place_is_not_looked_at(self, moved: Releases) -> None:
        assert kinds(moved.plan(prune=True, only=("a",))) == []

    def test_without_prune_it_stays_and_a_note_says_so(self, moved: Releases) -> None:
        plan = moved.plan()
        assert kinds(plan) == [("publish", "m@1.0.0", "b")]
        assert "1 pins of ours are no longer wanted; --prune would remove them" in plan.notes


def test_a_retired_version_is_kept_until_prune(two: Releases) -> None:
    two.add("m@2.0.0")
    two.apply()
    root = two.cid("m@1.0.0")
    two.change("m@1.0.0", retired=True)
    assert kinds(two.plan()) == []
    report = two.apply(prune=True)
    assert states(report) == [("unpin", "m@1.0.0", "a", "applied"), ("unpin", "m@1.0.0", "b", "applied")]
    assert root not in two.memory["a"].held
    assert kinds(two.plan(prune=True)) == []


def test_a_retired_version_is_not_published_again(two: Releases) -> None:
    two.add("m@2.0.0")
    two.apply()
    two.change("m@1.0.0", retired=True)
    for target in two.memory.values():
        target.held.pop(two.cid("m@1.0.0"))
    assert kinds(two.plan()) == []


def test_foreign_pins_are_never_removed(two: Releases) -> None:
    two.apply()
    root = two.cid("m@1.0.0")
    two.memory["a"].held[root].labels = ["reconciler/acme-2/m@1.0.0", "backups", "reconciler/acme/gone@1.0.0"]
    two.memory["b"].held[root].labels = ["backups"]
    two.remove("m@1.0.0")
    two.add("m@2.0.0")
    two.apply(prune=True)
    assert two.memory["a"].held[root].labels == ["reconciler/acme-2/m@1.0.0", "backups"]
    assert two.memory["b"].held[root].labels == ["backups"]


def test_a_refused_plan_changes_nothing(two: Releases) -> None:
    two.apply()
    two.fields.clear()
    two.write()
    before = {name: target.snapshot() for name, target in two.memory.items()}
    with two.running(prune=True) as run:
        plan = run.plan()
        assert {refusal.rule for refusal in plan.refusals} == {"emptied-index"}
        with pytest.raises(SafetyError, match="and 1 more"):
            run.apply(plan)
    assert {name: target.snapshot() for name, target in two.memory.items()} == before
    assert not two.apply(prune=True, allow_removals=1).failed
    assert not two.memory["a"].held


# -- selection -----------------------------------------------------------------------------------------------


def test_only_and_exclude_narrow_versions_and_targets(two: Releases) -> None:
    two.add("other@1.0.0")
    assert {c.ref for c in two.plan(only=("oth*",)).changes} == {"other@1.0.0"}
    assert {c.target for c in two.plan(only=("a",)).changes} == {"a", None}
    assert {(c.ref, c.target) for c in two.plan(only=("m@1*", "b")).changes} == {
        ("m@1.0.0", "b"),
        ("m@1.0.0", None),
    }
    assert {c.ref for c in two.plan(exclude=("m",)).changes} == {"other@1.0.0"}
    with pytest.raises(UsageError, match="matches no model") as caught:
        two.plan(only=("othre",))
    assert caught.value.hint == "did you mean 'other'?"


def test_an_unselected_target_is_not_observed(two: Releases) -> None:
    two.plan(only=("a",))
    assert two.memory["b"].calls["observe"] == 0


# -- status --------------------------------------------------------------------------------------------------


def test_status_says_what_every_target_holds(two: Releases) -> None:
    two.add("m@2.0.0")
    before = two.status()
    assert [(h.state, h.root is None) for h in before.holdings] == [(State.ABSENT, False)] * 4
    assert not before.in_sync
    two.apply()
    two.memory["a"].lose(two.cid("m@1.0.0"))
    two.memory["b"].faults["observe"] = down("b")
    status = two.status()
    assert [(h.version, h.target, h.state) for h in status.holdings] == [
        ("1.0.0", "a", State.PARTIAL),
        ("1.0.0", "b", State.UNKNOWN),
        ("2.0.0", "a", State.HELD),
        ("2.0.0", "b", State.UNKNOWN),
    ]
    assert status.unknown
    assert not status.in_sync


def test_status_of_a_version_without_bytes_says_why(two: Releases) -> None:
    shutil.rmtree(two.source("m@1.0.0"))
    assert {(h.state, h.root, h.detail) for h in two.status().holdings} == {
        (State.ABSENT, None, "no CID yet, and its directory is not here")
    }


# -- proposals that are not wanted ---------------------------------------------------------------------------


def test_without_a_proposal_the_index_stays_and_the_next_plan_is_empty(two: Releases) -> None:
    two.write()
    before = tree(two.root)
    report = two.apply(propose=ProposeMode.NONE)
    assert {kind for kind, *_ in states(report)} == {"publish"}
    assert tree(two.root) == before
    assert kinds(two.plan(propose=ProposeMode.NONE)) == []
    plan = two.plan()
    assert kinds(plan) == [("resolve-cid", "m@1.0.0", None), ("write-record", "m@1.0.0", None)]


def test_a_root_that_others_keep_gets_our_label_beside_theirs(two: Releases) -> None:
    two.apply()
    root = two.cid("m@1.0.0")
    two.memory["a"].held[root].labels = ["reconciler/other/x@1.0.0"]
    assert kinds(two.plan()) == [("relabel", "m@1.0.0", "a")]
    two.apply()
    assert set(two.memory["a"].held[root].labels) == {"reconciler/other/x@1.0.0", "reconciler/acme/m@1.0.0"}
    assert kinds(two.plan()) == []


def test_a_target_with_one_label_leaves_theirs_alone(two: Releases) -> None:
    two.apply()
    root = two.cid("m@1.0.0")
    target = two.memory["a"]
    target.capabilities = replace(target.capabilities, one_label=True)
    target.held[root].labels = ["backups"]
    assert kinds(two.plan()) == []
