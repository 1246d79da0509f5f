"""The verdict on a pin from the statuses that a cluster reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.content.cid import RAW, hash_block
from reconciler.targets.interface import State
from reconciler.targets.ipfs_cluster.judge import ReplicationRules, ReplicationVerdict, judge_replication
from reconciler.targets.ipfs_cluster.wire import EVERYWHERE, ClusterPin, PeerStatus, PinStatus

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ROOT = hash_block(RAW, b"root")
ENTRY = ClusterPin(ROOT, "reconciler/i/m@1.0.0", True, EVERYWHERE, EVERYWHERE, None, ())
TWO_OF_THREE = replace(ENTRY, factor_min=2, factor_max=2, allocations=("id-a", "id-b"))


def verdict(
    entry: ClusterPin,
    *states: str,
    rules: ReplicationRules | None = None,
    minutes: float = 1,
    ours: bool = True,
) -> ReplicationVerdict:
    """Return the verdict on peers a, b, c with these states, each for `minutes`."""
    since = NOW - timedelta(minutes=minutes)
    peers = tuple(
        PeerStatus(f"id-{name}", name, state, "an error" if "error" in state else "", since)
        for name, state in zip("abc", states, strict=False)
    )
    return judge_replication(
        entry, PinStatus(ROOT, peers), NOW, rules or ReplicationRules(), ours=ours, names={"id-b": "peer-b"}
    )


@pytest.mark.parametrize(
    ("entry", "states", "wanted"),
    [
        (ENTRY, ("pinned",), State.HELD),
        (ENTRY, ("pinned", "pinned", "pinned"), State.HELD),
        (ENTRY, ("pinned", "pinned", "cluster_error"), State.PARTIAL),
        (ENTRY, ("pinned", "pinned", "pin_error"), State.PARTIAL),
        (ENTRY, ("pinned", "unexpectedly_unpinned"), State.PARTIAL),
        (ENTRY, ("unexpectedly_unpinned",), State.PARTIAL),
        (ENTRY, ("pinned", "pinning"), State.PENDING),
        (ENTRY, ("pin_queued",), State.PENDING),
        (ENTRY, ("pinned", "pinning", "pin_error"), State.PARTIAL),
        (ENTRY, ("unpinned",), State.PARTIAL),
        (ENTRY, (), State.PARTIAL),
        (TWO_OF_THREE, ("pinned", "pinned", "remote"), State.HELD),
        (TWO_OF_THREE, ("pinned", "cluster_error", "remote"), State.PARTIAL),
        (TWO_OF_THREE, ("pinned", "pin_queued", "remote"), State.PENDING),
        (TWO_OF_THREE, ("pinned",), State.PARTIAL),
        (TWO_OF_THREE, ("remote", "remote", "remote"), State.PARTIAL),
        (replace(ENTRY, recursive=False), ("pinned",), State.PARTIAL),
    ],
)
def test_the_state_follows_from_how_many_peers_hold_it(
    entry: ClusterPin, states: tuple[str, ...], wanted: State
) -> None:
    assert verdict(entry, *states).state is wanted


def test_a_pin_is_held_when_an_additional_peer_is_down() -> None:
    entry = replace(ENTRY, factor_min=2, factor_max=3, allocations=("id-a", "id-b", "id-c"))
    seen = verdict(entry, "pinned", "pinned", "cluster_error")
    assert (seen.state, seen.away) == (State.HELD, ("c",))
    assert "c does not answer: an error" in seen.detail


def test_the_configuration_may_require_more_copies_than_the_pin() -> None:
    entry = replace(ENTRY, factor_min=1, factor_max=1, allocations=("id-a",))
    assert verdict(entry, "pinned").state is State.HELD
    seen = verdict(entry, "pinned", rules=ReplicationRules(factor_min=2, factor_max=3))
    assert (seen.state, seen.needed) == (State.PARTIAL, 2)
    assert "2 peers should hold it" in seen.detail


def test_a_missing_allocated_peer_is_named() -> None:
    """After missed pings, the status no longer contains a dead peer; only the allocations do."""
    seen = verdict(TWO_OF_THREE, "pinned")
    assert seen.away == ("peer-b",)
    assert "peer-b is gone from the cluster" in seen.detail
    assert seen.checked == "the cluster reports it pinned on 1 of 2 peers (a)"


def test_pinning_for_long_is_stuck_and_not_pending() -> None:
    assert verdict(ENTRY, "pinning", minutes=14).state is State.PENDING
    seen = verdict(ENTRY, "pinning", minutes=16)
    assert (seen.state, seen.stuck) == (State.PARTIAL, ("a",))
    assert "a is stuck fetching it since 2026-11-21 11:44 UTC" in seen.detail


def test_waiting_in_the_queue_for_long_is_not_stuck() -> None:
    assert verdict(ENTRY, "pin_queued", minutes=600).state is State.PENDING


class TestExpiry:
    MONTH = ReplicationRules(expire_seconds=720 * 3600)

    def expiring(self, hours: float, rules: ReplicationRules, *, ours: bool = True) -> ReplicationVerdict:
        return verdict(replace(ENTRY, expires=NOW + timedelta(hours=hours)), "pinned", rules=rules, ours=ours)

    def test_the_expiry_is_shown(self) -> None:
        seen = self.expiring(700, self.MONTH)
        assert (seen.state, seen.expiring) == (State.HELD, False)
        assert seen.detail == "expires 2026-12-20 16:00 UTC"

    def test_a_pin_in_the_second_half_of_its_lifetime_is_renewed(self) -> None:
        seen = self.expiring(359, self.MONTH)
        assert (seen.state, seen.expiring) == (State.PARTIAL, True)
        assert "to be renewed" in seen.detail

    def test_a_pin_that_should_not_expire_is_set_again(self) -> None:
        assert self.expiring(10_000, ReplicationRules()).expiring

    def test_a_pin_that_is_not_ours_is_only_shown(self) -> None:
        seen = self.expiring(1, ReplicationRules(), ours=False)
        assert (seen.state, seen.expiring) == (State.HELD, False)
        assert "expires" in seen.detail


def test_a_failed_dial_is_a_short_text() -> None:
    error = "failed to dial: failed to dial 12D3KooW: all dials failed\n  * [/ip4/127.0.0.1/tcp/1] refused"
    peer = PeerStatus("id-a", "a", "cluster_error", error, NOW)
    seen = judge_replication(ENTRY, PinStatus(ROOT, (peer,)), NOW, ReplicationRules(), ours=True, names={})
    assert "a does not answer: cannot be dialed" in seen.detail


def test_control_characters_of_peers_are_removed() -> None:
    peer = PeerStatus("id-a", "a", "cluster_error", "\x1b[2Jboo\n::error::" + "x" * 500, NOW)
    seen = judge_replication(ENTRY, PinStatus(ROOT, (peer,)), NOW, ReplicationRules(), ours=True, names={})
    assert "\x1b" not in seen.detail
    assert "\n" not in seen.detail
    assert len(seen.detail) < 300
