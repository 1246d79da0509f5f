"""Missing and expiring deals are changes of the plan, and waiting for deals is not a failure."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.content.dag import Dag
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedBy, CheckedDeal, DealState
from reconciler.errors import PeerError
from reconciler.loop.changes import Blocked
from reconciler.loop.settings import ProposeMode
from reconciler.progress import Progress
from reconciler.targets.interface import Capabilities, Check, Delivery, Expected, Inventory, State
from tests.loop.test_pieces import FILES, SHARDING
from tests.loop.test_propose import commit, in_repository
from tests.support.memory_target import MemoryTarget
from tests.support.releases import Releases, kinds, states, with_memory

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TWO = {"deals": {"min": 2, "providers": 2}}


class DealTarget(MemoryTarget):
    """A memory target that makes deals: each piece is in `states`, one deal a state, each with a provider of
    its own. A publish of what it holds turns them into `renewed`.
    """

    def __init__(self, name: str = "filecoin", *, renews: bool = True, writes: bool = True) -> None:
        super().__init__(name, Capabilities(sharding=SHARDING, renews_deals=renews, takes_bytes=writes))
        self.states: list[DealState] = []
        self.renewed: list[DealState] | None = None
        self.renew_before: list[timedelta] = []
        self.wanted: list[tuple[int, int]] = []

    def observe(self, expected: Any, check: Check, mark: str, progress: Progress) -> Inventory:
        inventory = super().observe(expected, check, mark, progress)
        self.renew_before = [each.renew_before for each in expected if isinstance(each, Expected)]
        self.wanted = [
            (each.min_deals, each.min_providers) for each in expected if isinstance(each, Expected)
        ]
        seen = dict(inventory.observations)
        for each in expected:
            pieces = tuple(shard.piece for shard in each.pieces.shards) if each.pieces else ()
            deals = tuple(deal for piece in pieces for deal in self._deals(piece))
            seen[each.root] = replace(seen[each.root], pieces=pieces, deals=deals)
        return replace(inventory, observations=seen)

    def _deals(self, piece: PieceCid) -> list[CheckedDeal]:
        return [
            CheckedDeal(piece, state, CheckedBy.CHAIN, NOW, piece, f"f0{number}", number)
            for number, state in enumerate(self.states)
        ]

    def publish(self, dag: Dag, label: str, progress: Progress) -> Delivery:
        if dag.layout.root in self.held and self.renewed is not None:
            self.states = self.renewed
        return super().publish(dag, label, progress)


def released(root: Path, target: MemoryTarget, policy: object = None, *states: DealState) -> Releases:
    """A version that was published to `target`, which has deals in `states`, and then a policy."""
    releases = with_memory(root, target.name)
    releases.memory[target.name] = target
    releases.add("m@1.0.0", FILES)
    releases.apply()
    if isinstance(target, DealTarget):
        target.states = list(states)
    if policy is not None:
        releases.policy = policy
    return releases


ACTIVE, OFFERED, EXPIRING, CLAIMED = (
    DealState.ACTIVE,
    DealState.OFFERED,
    DealState.EXPIRING,
    DealState.CLAIMED,
)


def test_without_a_policy_deals_ask_for_nothing(tmp_path: Path) -> None:
    assert kinds(released(tmp_path, DealTarget(), None, DealState.LOST).plan()) == []


def test_a_plan_asks_about_deals_where_a_policy_does_and_a_status_always(tmp_path: Path) -> None:
    target = DealTarget()
    releases = released(tmp_path, target, None, ACTIVE)
    releases.plan()
    assert target.wanted == [(0, 1)]
    releases.status()
    assert target.wanted == [(1, 1)]
    releases.policy = TWO
    for observed in (releases.plan, releases.status):
        observed()
        assert target.wanted == [(2, 2)]


def test_enough_deals_are_in_sync(tmp_path: Path) -> None:
    plan = released(tmp_path, DealTarget(), TWO, ACTIVE, ACTIVE).plan()
    assert (kinds(plan), plan.in_sync, plan.notes) == ([], 1, ())


def test_deals_that_no_chain_confirmed_are_pointed_out(tmp_path: Path) -> None:
    plan = released(tmp_path, DealTarget(), TWO, ACTIVE, CLAIMED).plan()
    assert kinds(plan) == []
    assert plan.notes == ("filecoin: deals of 1 version are only claimed: no chain confirmed them",)


def test_missing_deals_are_made_by_publishing_again_and_then_nothing_is_left(tmp_path: Path) -> None:
    target = DealTarget()
    releases = released(tmp_path, target, TWO, ACTIVE, EXPIRING)
    target.renewed = [ACTIVE, ACTIVE, EXPIRING]
    plan = releases.plan()
    assert kinds(plan) == [("publish", "m@1.0.0", "filecoin")]
    assert "1 of 2 deals" in plan.changes[0].reason
    assert "1 expiring" in plan.changes[0].reason
    assert states(releases.apply()) == [("publish", "m@1.0.0", "filecoin", "applied")]
    assert kinds(releases.plan()) == []


def test_deals_on_their_way_are_waited_for_without_a_failure(tmp_path: Path) -> None:
    releases = released(tmp_path, DealTarget(), TWO, ACTIVE, OFFERED)
    plan = releases.plan()
    assert kinds(plan) == [("wait", "m@1.0.0", "filecoin")]
    assert not plan.pending
    report = releases.apply()
    assert [outcome.state for outcome in report.outcomes] == ["waiting"]
    assert not report.failed


@pytest.mark.parametrize("target", [DealTarget(renews=False), DealTarget(writes=False, renews=False)])
def test_where_publishing_again_makes_no_deals_the_plan_says_what_would(
    tmp_path: Path, target: DealTarget
) -> None:
    able = target.capabilities
    target.capabilities = replace(able, takes_bytes=True)
    releases = released(tmp_path, target, TWO, EXPIRING)
    target.capabilities = able
    (change,) = releases.plan().changes
    assert isinstance(change, Blocked)
    assert "0 of 2 deals" in change.reason
    assert "another target" in change.hint
    assert releases.apply().failed


def test_a_new_version_gets_its_cid_at_once_and_waits_for_deals_later(tmp_path: Path) -> None:
    target = DealTarget()
    target.states = [OFFERED]
    releases = with_memory(tmp_path, "filecoin")
    releases.memory["filecoin"] = target
    releases.policy = TWO
    releases.add("m@1.0.0", FILES)
    assert {state for *_, state in states(releases.apply())} == {"applied"}
    assert releases.cid("m@1.0.0") in target.held
    assert kinds(releases.plan()) == [("wait", "m@1.0.0", "filecoin")]


def test_a_cid_that_was_not_written_back_does_not_wait_for_deals(tmp_path: Path) -> None:
    target = DealTarget()
    releases = released(tmp_path, target, TWO, OFFERED)
    releases.change("m@1.0.0", cid=None)
    releases.write()
    report = releases.apply()
    assert ("resolve-cid", "m@1.0.0", None, "applied") in states(report)
    assert not report.failed


def test_unknown_pieces_block_the_plan(tmp_path: Path) -> None:
    releases = released(tmp_path, DealTarget(), TWO, ACTIVE, ACTIVE)
    record = tmp_path / "releases/records/m/1.0.0.json"
    fields = json.loads(record.read_text())
    del fields["pieces"]
    record.write_text(json.dumps(fields))
    for file in releases.source("m@1.0.0").iterdir():
        file.unlink()
    releases.source("m@1.0.0").rmdir()
    (change,) = releases.plan().changes
    assert isinstance(change, Blocked)
    assert "not known" in change.reason


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_proposal_that_is_not_merged_yet_is_waited_for(tmp_path: Path, use_cache: bool) -> None:
    """Its pieces are in no record yet; the next run does not fail, with or without a cache."""
    target = DealTarget()
    target.states = [ACTIVE, ACTIVE]
    releases = in_repository(tmp_path, tmp_path)
    releases.targets = ("filecoin",)
    releases.memory["filecoin"] = target
    releases.policy = TWO
    releases.add("m@1.0.0", FILES)
    releases.write()
    commit(tmp_path)
    branch = {"propose": ProposeMode.BRANCH, "use_cache": use_cache}
    assert {state for *_, state in states(releases.apply(**branch))} == {"applied"}
    report = releases.apply(**branch)
    assert not report.failed
    assert states(report) == ([] if use_cache else [("wait", "m@1.0.0", "filecoin", "waiting")])
    if not use_cache:
        assert "before its pieces are recorded" in report.plan.changes[0].reason
        unproposed = releases.apply(propose=ProposeMode.NONE, use_cache=False)
        assert states(unproposed) == [("blocked", "m@1.0.0", "filecoin", "blocked")]


def test_a_policy_that_no_target_can_keep_blocks_the_plan(tmp_path: Path) -> None:
    releases = released(tmp_path, MemoryTarget("a"), TWO)
    (change,) = releases.plan().changes
    assert isinstance(change, Blocked)
    assert "none of its targets makes any" in change.reason
    assert kinds(releases.plan(only=("m",))) == [("blocked", "m@1.0.0", None)]


def test_a_status_is_in_sync_only_with_the_deals_that_should_be_there(tmp_path: Path) -> None:
    target = DealTarget()
    releases = released(tmp_path, target, TWO, ACTIVE, CLAIMED)
    status = releases.status()
    assert status.in_sync
    assert status.notes == ("filecoin: deals of 1 version are only claimed: no chain confirmed them",)
    target.states = [ACTIVE]
    status = releases.status()
    assert not status.in_sync
    assert status.holdings[0].decision is not None
    assert status.holdings[0].state is State.HELD


def test_a_status_lists_a_policy_that_no_target_can_meet(tmp_path: Path) -> None:
    status = released(tmp_path, MemoryTarget("a"), TWO).status()
    assert not status.in_sync
    assert status.unmet == ("m@1.0.0: the policy requires 2 deals, and none of its targets makes any",)


def test_a_target_that_cannot_be_observed_is_unknown_and_nothing_is_published(tmp_path: Path) -> None:
    target = DealTarget()
    releases = released(tmp_path, target, TWO, ACTIVE)
    target.faults["observe"] = PeerError("filecoin: refused")
    (change,) = releases.plan().changes
    assert isinstance(change, Blocked)
    assert change.unknown


def test_the_target_receives_when_deals_count_as_expiring(tmp_path: Path) -> None:
    target = DealTarget()
    releases = released(tmp_path, target, None, ACTIVE)
    releases.plan()
    assert target.renew_before == [timedelta(days=30)]
    releases.policy = {"deals": {"min": 1, "renew_before": "45d"}}
    releases.plan()
    assert target.renew_before == [timedelta(days=45)]
