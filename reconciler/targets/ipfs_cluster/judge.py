"""The state of one pin, derived from what a cluster reports about it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.net.errors import sanitize
from reconciler.targets.interface import State
from reconciler.targets.ipfs_cluster.wire import EVERYWHERE, ClusterPin, PeerStatus, PinStatus, short_id

#: A pin that a peer has been fetching for longer than this is stuck: blocks are missing, and the cluster
#: never reports it.
STUCK_AFTER = timedelta(minutes=15)

_IN_PROGRESS = frozenset({"pinning", "pin_queued"})
_MAX_ERROR = 120  # characters shown of an error of a peer


@dataclass(frozen=True, slots=True)
class ReplicationRules:
    """The configured replication of our pins: on at least `factor_min` peers (0: as the pin itself has it).

    `expire_seconds` is the time after which a pin expires unless it is renewed; 0: it does not expire.
    """

    factor_min: int = 0
    factor_max: int = 0
    expire_seconds: float = 0.0
    stuck_after: timedelta = STUCK_AFTER


@dataclass(frozen=True, slots=True)
class ReplicationVerdict:
    """The state of one pin over all peers.

    `holders` are the names of the peers that report it as pinned, `needed` is the required number of them.
    `stuck` are the names of peers that will not finish by themselves, `lost` of those that no longer have the
    pin, `away` of those that do not answer. `expiring` means that the pin has to be set again. `checked` and
    `detail` are texts for users.
    """

    state: State
    holders: tuple[str, ...]
    needed: int
    stuck: tuple[str, ...]
    lost: tuple[str, ...]
    away: tuple[str, ...]
    expiring: bool
    checked: str
    detail: str


def judge_replication(
    entry: ClusterPin,
    status: PinStatus,
    now: datetime,
    rules: ReplicationRules,
    *,
    ours: bool,
    names: Mapping[str, str],
) -> ReplicationVerdict:
    """Return the verdict on one pin.

    `now` is the time of the cluster's clock; `names` are the names of peers by id, including missing peers.
    """
    peers = [peer for peer in status.peers if peer.status != "remote"]
    seen = {peer.peer for peer in peers}
    vanished = [names.get(peer, short_id(peer)) for peer in entry.allocations if peer not in seen]
    holders = tuple(peer.name for peer in peers if peer.status == "pinned")
    in_progress = [peer for peer in peers if peer.status in _IN_PROGRESS]
    stuck = tuple(peer.name for peer in in_progress if _is_stuck(peer, now, rules))
    away = tuple(peer.name for peer in peers if peer.status == "cluster_error") + tuple(vanished)
    lost = tuple(peer.name for peer in peers if peer.status not in ("pinned", "cluster_error", *_IN_PROGRESS))
    needed = _required_peers(entry, rules, len(peers) + len(vanished))
    expiring = ours and _is_expiring(entry, now, rules)
    if not entry.recursive or expiring:
        state = State.PARTIAL
    elif len(holders) >= needed:
        state = State.HELD
    elif len(holders) + len(in_progress) - len(stuck) >= needed:
        state = State.PENDING
    else:
        state = State.PARTIAL
    listed = f" ({', '.join(holders)})" if holders else ""
    total = max(needed, len(peers) + len(vanished))
    return ReplicationVerdict(
        state=state,
        holders=holders,
        needed=needed,
        stuck=stuck,
        lost=lost,
        away=away,
        expiring=expiring,
        checked=f"the cluster reports it pinned on {len(holders)} of {total} peers{listed}",
        detail="; ".join(
            _describe(entry, peers, vanished, stuck, needed=needed, holding=len(holders), expiring=expiring)
        ),
    )


def describe_peer_error(error: str) -> str:
    """Return the error of a peer as a short text. A failed dial lists every address that was tried."""
    return "cannot be dialed" if "failed to dial" in error else sanitize(error, limit=_MAX_ERROR)


def _is_stuck(peer: PeerStatus, now: datetime, rules: ReplicationRules) -> bool:
    return peer.status == "pinning" and peer.since is not None and now - peer.since > rules.stuck_after


def _required_peers(entry: ClusterPin, rules: ReplicationRules, peers: int) -> int:
    """Return how many peers have to hold the pin: with EVERYWHERE all `peers`, and at least one."""
    wanted = rules.factor_min or entry.factor_min
    return max(1, peers) if wanted == EVERYWHERE else max(1, wanted)


def _is_expiring(entry: ClusterPin, now: datetime, rules: ReplicationRules) -> bool:
    """Return whether a pin must be set again: it should not expire, or has passed half of its lifetime."""
    if entry.expires is None:
        return False
    if not rules.expire_seconds:
        return True
    return entry.expires - now < timedelta(seconds=rules.expire_seconds / 2)


def _describe(
    entry: ClusterPin,
    peers: list[PeerStatus],
    vanished: list[str],
    stuck: tuple[str, ...],
    *,
    needed: int,
    holding: int,
    expiring: bool,
) -> list[str]:
    words = []
    if not entry.recursive:
        words.append("only its root block is pinned (mode direct)")
    if holding < needed:
        words.append(f"{needed} peer{'s' * (needed > 1)} should hold it")
    for peer in peers:
        if peer.name in stuck:
            words.append(f"{peer.name} is stuck fetching it since {peer.since:%Y-%m-%d %H:%M} UTC")
        elif peer.status == "cluster_error":
            words.append(f"{peer.name} does not answer: {describe_peer_error(peer.error)}")
        elif peer.status != "pinned":
            reason = f": {describe_peer_error(peer.error)}" if peer.error else ""
            words.append(f"{peer.name} reports {sanitize(peer.status)}{reason}")
    words += [f"{name} is gone from the cluster" for name in vanished]
    if entry.expires is not None:
        words.append(f"expires {entry.expires:%Y-%m-%d %H:%M} UTC" + (", to be renewed" if expiring else ""))
    return words
