"""What the word of a cluster about one pin amounts to. Pure: entries and statuses in, a verdict out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.net.errors import sanitize
from reconciler.targets.interface import State
from reconciler.targets.ipfs_cluster.wire import EVERYWHERE, ClusterPin, PeerStatus, PinStatus, short_id

#: A pin that its peer has been fetching for longer is stuck: the blocks are missing, and the cluster never
#: says so.
STUCK_AFTER = timedelta(minutes=15)

_UNDER_WAY = frozenset({"pinning", "pin_queued"})
_SHOWN = 120  # characters of a peer's own error


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator wants of our pins: at least `factor_min` peers (0: what the pin itself says).

    `expire_seconds` is how long a pin stays when nobody renews it, 0 for ever.
    """

    factor_min: int = 0
    factor_max: int = 0
    expire_seconds: float = 0.0
    stuck_after: timedelta = STUCK_AFTER


@dataclass(frozen=True, slots=True)
class ReplicationVerdict:
    """`holders` are the names of peers that say pinned, `needed` how many have to.

    `stuck` are the names of peers that will not get anywhere by themselves, `lost` of those that hold no pin
    any more, `away` of those that do not answer; `expiring` asks for the pin to be set again; `checked` and
    `detail` are worded for people.
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


def judge(
    entry: ClusterPin, status: PinStatus, now: datetime, rules: Rules, *, ours: bool, names: Mapping[str, str]
) -> ReplicationVerdict:
    """The verdict on one pin. `now` is by the cluster's clock; `names` has dead peers too, by their ids."""
    peers = [peer for peer in status.peers if peer.status != "remote"]
    seen = {peer.peer for peer in peers}
    vanished = [names.get(peer, short_id(peer)) for peer in entry.allocations if peer not in seen]
    holders = tuple(peer.name for peer in peers if peer.status == "pinned")
    under_way = [peer for peer in peers if peer.status in _UNDER_WAY]
    stuck = tuple(peer.name for peer in under_way if _stuck(peer, now, rules))
    away = tuple(peer.name for peer in peers if peer.status == "cluster_error") + tuple(vanished)
    lost = tuple(peer.name for peer in peers if peer.status not in ("pinned", "cluster_error", *_UNDER_WAY))
    needed = _needed(entry, rules, len(peers) + len(vanished))
    expiring = ours and _expiring(entry, now, rules)
    if not entry.recursive or expiring:
        state = State.PARTIAL
    elif len(holders) >= needed:
        state = State.HELD
    elif len(holders) + len(under_way) - len(stuck) >= needed:
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
        checked=f"the cluster says pinned on {len(holders)} of {total} peers{listed}",
        detail="; ".join(
            _details(entry, peers, vanished, stuck, needed=needed, holding=len(holders), expiring=expiring)
        ),
    )


def why(error: str) -> str:
    """A peer's own error, fit for a person: a failed dial lists every address that was tried."""
    return "it cannot be dialled" if "failed to dial" in error else sanitize(error, limit=_SHOWN)


def _stuck(peer: PeerStatus, now: datetime, rules: Rules) -> bool:
    return peer.status == "pinning" and peer.since is not None and now - peer.since > rules.stuck_after


def _needed(entry: ClusterPin, rules: Rules, peers: int) -> int:
    """How many peers have to hold it. Everywhere means every peer known, and never none."""
    wanted = rules.factor_min or entry.factor_min
    return max(1, peers) if wanted == EVERYWHERE else max(1, wanted)


def _expiring(entry: ClusterPin, now: datetime, rules: Rules) -> bool:
    """Whether a pin of ours has to be set again: it should stay, or is in the second half of its time."""
    if entry.expires is None:
        return False
    if not rules.expire_seconds:
        return True
    return entry.expires - now < timedelta(seconds=rules.expire_seconds / 2)


def _details(
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
            words.append(f"{peer.name} does not answer: {why(peer.error)}")
        elif peer.status != "pinned":
            said = f": {why(peer.error)}" if peer.error else ""
            words.append(f"{peer.name} says {sanitize(peer.status)}{said}")
    words += [f"{name} is gone from the cluster" for name in vanished]
    if entry.expires is not None:
        words.append(f"expires {entry.expires:%Y-%m-%d %H:%M} UTC" + (", to be renewed" if expiring else ""))
    return words
