"""Look at a whole cluster in four calls, whatever the number of versions, and at the nodes behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.content.cid import Cid
from reconciler.progress import Progress
from reconciler.targets.interface import Check, Expected, Inventory, Observation, Pin, State
from reconciler.targets.ipfs_cluster.judge import ReplicationVerdict, Rules, judge, why
from reconciler.targets.ipfs_cluster.nodes import Nodes, NodesReport
from reconciler.targets.ipfs_cluster.rest import ClusterRest, PinStatuses
from reconciler.targets.ipfs_cluster.wire import Alert, ClusterPeer, ClusterPin, gone

_WORD_ONLY = (
    "the cluster's word is all there is: it does not notice lost or damaged blocks; "
    "name the Kubo daemons behind it under `nodes` to have them checked and healed"
)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What the cluster said: its pinset, how the pins do, who is there, and who stopped reporting."""

    entries: Mapping[Cid, ClusterPin]
    statuses: PinStatuses
    peers: tuple[ClusterPeer, ...]
    alerts: tuple[Alert, ...]

    @property
    def names(self) -> dict[str, str]:
        """Names of peers by id, also of those that are gone."""
        seen = {one.peer: one.name for status in self.statuses.by_cid.values() for one in status.peers}
        named = {
            peer.peer: peer.name for peer in self.peers if not peer.error
        }  # one that is down has no name
        return gone(self.peers, self.alerts) | seen | named


def look(rest: ClusterRest) -> ClusterState:
    """Ask the cluster for everything. Raises Outcome."""
    return ClusterState(rest.entries(), rest.statuses(), rest.peers(), rest.alerts())


def inventory(
    world: ClusterState,
    expected: Sequence[Expected],
    check: Check,
    mark: str,
    *,
    rules: Rules,
    nodes: Nodes,
    progress: Progress,
) -> Inventory:
    """What `world` and the nodes behind it mean for the expected roots."""
    pinned = [one for one in expected if one.root in world.entries]
    report = nodes.observe(pinned, check, mark, progress)
    observations = {}
    for one in expected:
        seen = _observe(world, one.root, mark, rules)
        observations[one.root] = _with_blocks(seen, report, one.root, len(nodes))
    owned: list[Pin] = []
    foreign: list[Pin] = []
    for root, entry in world.entries.items():
        (owned if entry.label.startswith(mark) else foreign).append(Pin(root, entry.label))
    notes = (*_peer_notes(world), *report.notes, *(() if len(nodes) else (_WORD_ONLY,)))
    return Inventory(observations, tuple(owned), tuple(foreign), notes)


def _observe(world: ClusterState, root: Cid, mark: str, rules: Rules) -> Observation:
    entry, status = world.entries.get(root), world.statuses.by_cid.get(root)
    labels = (entry.label,) if entry is not None and entry.label else ()
    if entry is None and status is None:
        return Observation(root, State.ABSENT, checked="not in the cluster's pinset")
    if entry is None or status is None:
        # A list is cut without a sign when a peer fails behind its first byte, and pins come and go
        # meanwhile.
        return Observation(
            root, State.UNKNOWN, labels, detail="the cluster's two lists of pins contradict each other"
        )
    verdict = judge(
        entry,
        status,
        world.statuses.now,
        rules,
        ours=entry.label.startswith(mark),
        names=world.names,
    )
    return observation(root, labels, verdict)


def observation(root: Cid, labels: tuple[str, ...], verdict: ReplicationVerdict) -> Observation:
    """A verdict as an observation."""
    return Observation(root, verdict.state, labels, checked=verdict.checked, detail=verdict.detail)


def _with_blocks(seen: Observation, report: NodesReport, root: Cid, nodes: int) -> Observation:
    """`seen`, corrected by what the nodes really hold."""
    if seen.state in (State.ABSENT, State.UNKNOWN):
        return seen
    if not nodes:
        checked = f"{seen.checked}; no block was looked at"
        return Observation(root, seen.state, seen.labels, checked=checked, detail=seen.detail)
    found = report.by_root.get(root, ())
    bad = [(name, one) for name, one in found if one.state is State.PARTIAL]
    good = [(name, one) for name, one in found if one.state is State.HELD]
    state: State = State.PARTIAL if bad else seen.state
    words = [seen.detail] if seen.detail else []
    words += [f"{name}: {one.detail or 'blocks are missing or damaged'}" for name, one in bad]
    if state is State.HELD and not good:
        state = State.UNKNOWN
        words.append("no node behind the cluster could show its blocks")
    checked = "; ".join((seen.checked, *(f"{name}: {one.checked}" for name, one in (*good, *bad))))
    damaged = tuple(dict.fromkeys(cid for _, one in bad for cid in one.damaged))
    needs = next((one.needs for _, one in bad if one.needs), "")
    return Observation(root, state, seen.labels, damaged, checked, "; ".join(words), needs)


def _peer_notes(world: ClusterState) -> list[str]:
    notes = [
        f"{name} is gone from the cluster: it stopped reporting"
        for name in gone(world.peers, world.alerts).values()
    ]
    for peer in world.peers:
        if peer.error:
            notes.append(f"{world.names.get(peer.peer, peer.name)} does not answer: {why(peer.error)}")
        elif peer.ipfs_error:
            notes.append(f"the Kubo behind {peer.name} does not answer: {why(peer.ipfs_error)}")
    return notes
