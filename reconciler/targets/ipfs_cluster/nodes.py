"""The Kubo daemons behind a cluster: the only place where lost blocks can be seen and put back.

A cluster believes its own pinset: it calls a pin `pinned` while blocks of it are gone, and neither `recover`
nor pinning again changes anything. So every node that is configured is looked at, and healed, as a target of
its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.progress import Progress
from reconciler.targets.healing import gather
from reconciler.targets.interface import Check, Expected, Observation, State, Target
from reconciler.targets.ipfs_cluster.rest import ClusterRest
from reconciler.targets.kubo.heal import Owns


@dataclass(frozen=True, slots=True)
class NodesReport:
    """What the nodes really hold. `by_root` has, for each root, what each node that answered found."""

    by_root: Mapping[Cid, tuple[tuple[str, Observation], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Healed:
    """What healing sent, in bytes of blocks, and what it could not do, worded for people."""

    bytes_sent: int = 0
    blocks_sent: int = 0
    complaints: tuple[str, ...] = ()


@runtime_checkable
class LooksForBlocks(Protocol):
    """A node that tells which blocks it lacks."""

    def peer_id(self) -> str:
        """Who it is in the swarm. Raises PeerError."""

    def lacking(self, layout: DagLayout, progress: Progress) -> frozenset[int]:
        """Positions of `layout`. Raises PeerError."""


def owned_through(rest: ClusterRest) -> Owns:
    """A node's pins are ours when the cluster's pins on the same roots are."""

    def owns(root: Cid, name: str, mark: str) -> bool:  # noqa: ARG001  the cluster's own name for it
        entry = rest.entry(root)
        return entry is not None and entry.label.startswith(mark)

    return owns


class Nodes:
    """The Kubo targets behind one cluster, maybe none."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = tuple(targets)

    def __len__(self) -> int:
        return len(self._targets)

    def observe(
        self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress
    ) -> NodesReport:
        """Look at every root on every node. A node that does not answer is a note, not an error."""
        found: dict[Cid, list[tuple[str, Observation]]] = {one.root: [] for one in expected}
        notes = []
        for node in self._targets if expected else ():
            try:
                inventory = node.observe(expected, check, mark, progress)
            except PeerError as error:
                notes.append(f"the blocks on {node.name} could not be checked: {error.message}")
                continue
            notes += [f"{node.name}: {note}" for note in inventory.notes]
            for root, seen in inventory.observations.items():
                found[root].append((node.name, seen))
        return NodesReport({root: tuple(seen) for root, seen in found.items()}, tuple(notes))

    def heal(self, dag: Dag, damaged: Sequence[Cid], label: Label, mark: str, progress: Progress) -> Healed:
        """Put back on each node what is missing or wrong there. A node without the pin is left alone.

        Raises what reading `dag` raises; a node's own fault is a complaint.
        """
        root = dag.layout.root
        expected = (Expected(root, (label,), len(dag.layout), dag.layout.size, dag.layout),)
        sent, blocks, complaints = 0, 0, []
        for node in self._targets:
            try:
                seen = node.observe(expected, Check.QUICK, mark, progress).observations[root]
                if seen.state not in (State.HELD, State.PARTIAL):
                    continue
                delivery = node.repair(dag, damaged, label, progress)
            except PeerError as error:
                complaints.append(f"{node.name}: {error.message}")
                continue
            sent += delivery.bytes_sent
            blocks += delivery.blocks_sent
            if delivery.state is not State.HELD:
                complaints.append(f"{node.name} is still {delivery.state}: {delivery.detail}")
        return Healed(sent, blocks, tuple(complaints))

    def lacking(self, peer_id: str, layout: DagLayout, progress: Progress) -> Iterable[int]:
        """The positions of blocks that the node `peer_id` lacks: all, where nobody here can tell."""
        for node in self._targets:
            try:
                if isinstance(node, LooksForBlocks) and node.peer_id() == peer_id:
                    return node.lacking(layout, progress)
            except PeerError:
                continue
        return range(len(layout))

    def dag(self, root: Cid) -> Dag:
        """The DAG as the nodes serve it together. Raises BlockUnavailable or PeerError when they cannot."""
        return gather(root, self._targets)

    def close(self) -> None:
        """Close every node."""
        for node in self._targets:
            node.close()
