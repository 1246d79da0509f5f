"""Observation of a whole cluster in four requests, for any number of versions, and of the nodes behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.content.cid import Cid
from reconciler.progress import Progress
from reconciler.targets.interface import (
    Check,
    Expected,
    Inventory,
    Observation,
    Pin,
    State,
    describe_v0_pin,
)
from reconciler.targets.ipfs_cluster.judge import ReplicationRules, describe_peer_error, judge_replication
from reconciler.targets.ipfs_cluster.nodes import ClusterNodes, NodesReport
from reconciler.targets.ipfs_cluster.rest import ClusterRest, PinStatuses
from reconciler.targets.ipfs_cluster.wire import ClusterPeer, ClusterPin, PeerAlert, missing_peers

_BLOCKS_UNCHECKED = (
    "blocks are not checked: a cluster does not notice lost or damaged blocks; "
    "list the Kubo daemons behind it under `nodes` to have them checked and repaired"
)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The reported state: the pinset, the status of the pins, its peers, and alerts about peers."""

    entries: Mapping[Cid, ClusterPin]
    statuses: PinStatuses
    peers: tuple[ClusterPeer, ...]
    alerts: tuple[PeerAlert, ...]

    @property
    def names(self) -> dict[str, str]:
        """Names of peers by id, including missing peers."""
        seen = {one.peer: one.name for status in self.statuses.by_cid.values() for one in status.peers}
        named = {
            peer.peer: peer.name for peer in self.peers if not peer.error
        }  # a peer that is down has none
        return missing_peers(self.peers, self.alerts) | seen | named


def read_cluster(rest: ClusterRest) -> ClusterState:
    """Request the state of the whole cluster. Raises RequestError."""
    return ClusterState(rest.entries(), rest.statuses(), rest.peers(), rest.alerts())


def build_inventory(
    cluster: ClusterState,
    expected: Sequence[Expected],
    check: Check,
    mark: str,
    *,
    rules: ReplicationRules,
    nodes: ClusterNodes,
    progress: Progress,
) -> Inventory:
    """Return the inventory from the state of the cluster and the blocks on the nodes behind it."""
    pinned = [
        one for one in expected if one.root in cluster.entries and not cluster.entries[one.root].spelling
    ]
    report = nodes.observe(pinned, check, mark, progress)
    observations = {}
    for one in expected:
        seen = _observe_root(cluster, one.root, mark, rules)
        observations[one.root] = _with_blocks(seen, report, one.root, len(nodes))
    owned: list[Pin] = []
    foreign: list[Pin] = []
    for root, entry in cluster.entries.items():
        pin = Pin(root, entry.label, entry.spelling)
        (owned if entry.label.startswith(mark) else foreign).append(pin)
    notes = (*_peer_notes(cluster), *report.notes, *(() if len(nodes) else (_BLOCKS_UNCHECKED,)))
    return Inventory(observations, tuple(owned), tuple(foreign), notes)


def _observe_root(cluster: ClusterState, root: Cid, mark: str, rules: ReplicationRules) -> Observation:
    entry, status = cluster.entries.get(root), cluster.statuses.by_cid.get(root)
    labels = (entry.label,) if entry is not None and entry.label else ()
    if entry is None and status is None:
        return Observation(root, State.ABSENT, checked="not in the cluster's pinset")
    if entry is not None and entry.spelling:
        detail = describe_v0_pin(entry.label)
        return Observation(root, State.ABSENT, checked="only its CIDv0 is in the pinset", detail=detail)
    if entry is None or status is None:
        # A list is truncated without a sign when a peer fails after its first byte, and pins may change
        # between the two requests.
        return Observation(
            root, State.UNKNOWN, labels, detail="the cluster's two lists of pins contradict each other"
        )
    ours = entry.label.startswith(mark)
    verdict = judge_replication(entry, status, cluster.statuses.now, rules, ours=ours, names=cluster.names)
    return Observation(root, verdict.state, labels, checked=verdict.checked, detail=verdict.detail)


def _with_blocks(seen: Observation, report: NodesReport, root: Cid, nodes: int) -> Observation:
    """Return `seen`, corrected by the blocks that the nodes have."""
    if seen.state in (State.ABSENT, State.UNKNOWN):
        return seen
    if not nodes:
        checked = f"{seen.checked}; no block was checked"
        return Observation(root, seen.state, seen.labels, checked=checked, detail=seen.detail)
    found = report.by_root.get(root, ())
    bad = [(name, one) for name, one in found if one.state is State.PARTIAL]
    good = [(name, one) for name, one in found if one.state is State.HELD]
    state: State = State.PARTIAL if bad else seen.state
    words = [seen.detail] if seen.detail else []
    words += [f"{name}: {one.detail or 'blocks are missing or damaged'}" for name, one in bad]
    if state is State.HELD and not good:
        state = State.UNKNOWN
        words.append("its blocks could not be checked on any node behind the cluster")
    checked = "; ".join((seen.checked, *(f"{name}: {one.checked}" for name, one in (*good, *bad))))
    damaged = tuple(dict.fromkeys(cid for _, one in bad for cid in one.damaged))
    return Observation(root, state, seen.labels, damaged, checked, "; ".join(words))


def _peer_notes(cluster: ClusterState) -> list[str]:
    notes = [
        f"{name} is gone from the cluster: it stopped reporting"
        for name in missing_peers(cluster.peers, cluster.alerts).values()
    ]
    for peer in cluster.peers:
        if peer.error:
            name = cluster.names.get(peer.peer, peer.name)
            notes.append(f"{name} does not answer: {describe_peer_error(peer.error)}")
        elif peer.ipfs_error:
            notes.append(
                f"the Kubo behind {peer.name} does not answer: {describe_peer_error(peer.ipfs_error)}"
            )
    return notes
