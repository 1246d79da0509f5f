"""The Kubo daemons behind a cluster, on which lost blocks can be detected and repaired.

A cluster trusts its own pinset: it reports a pin as `pinned` while blocks of it are missing, and neither
`recover` nor a new pin changes that. So every configured node is observed and repaired as a target of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import PeerError
from reconciler.index.label import Label
from reconciler.net.errors import RetryLaterError, TransientError
from reconciler.progress import Progress
from reconciler.targets.healing import gather
from reconciler.targets.interface import Check, Expected, Observation, State, Target


@dataclass(frozen=True, slots=True)
class NodesReport:
    """The observations of the nodes.

    `by_root` has for each root the observation of each node that answered.
    """

    by_root: Mapping[Cid, tuple[tuple[str, Observation], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealingResult:
    """The number of sent blocks and bytes, and the failures of nodes as texts for users."""

    bytes_sent: int = 0
    blocks_sent: int = 0
    failures: tuple[str, ...] = ()

    def __add__(self, other: HealingResult) -> HealingResult:
        return HealingResult(
            self.bytes_sent + other.bytes_sent,
            self.blocks_sent + other.blocks_sent,
            self.failures + other.failures,
        )


@runtime_checkable
class ReplacesBlocks(Protocol):
    """A node on which damaged blocks can be overwritten without touching a pin."""

    def read_intact(self, cid: Cid) -> bytes | None:
        """Return a block of the node, verified; None when it is missing or damaged."""

    def peer_id(self) -> str:
        """Return its peer id in the swarm. Raises PeerError."""

    def replace_damaged(self, dag: Dag, progress: Progress) -> frozenset[int]:
        """Overwrite the damaged blocks of `dag`; return the positions of missing ones. Raises PeerError."""


class ClusterNodes:
    """The configured Kubo targets behind one cluster; possibly none."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = tuple(targets)

    def __len__(self) -> int:
        return len(self._targets)

    def observe(
        self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress
    ) -> NodesReport:
        """Observe every root on every node. A node that does not answer is a note, not an error."""
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

    def repair(
        self, dag: Dag, damaged: Sequence[Cid], label: Label, mark: str, progress: Progress
    ) -> HealingResult:
        """Send each node the blocks that are missing or damaged there.

        A node without the pin, which may be asked to fetch it, gets only its damaged blocks replaced.

        Errors of a node become failures; raises what reading `dag` raises.
        """
        root = dag.layout.root
        expected = (Expected(root, (label,), layout=dag.layout),)
        sent, blocks, failures = 0, 0, []
        for node in self._targets:
            try:
                seen = node.observe(expected, Check.QUICK, mark, progress).observations[root]
                if seen.state not in (State.HELD, State.PARTIAL):
                    if isinstance(node, ReplacesBlocks):
                        node.replace_damaged(dag, progress)
                    continue
                delivery = node.repair(dag, damaged, label, progress)
            except PeerError as error:
                failures.append(f"{node.name}: {error.message}")
                continue
            sent += delivery.bytes_sent
            blocks += delivery.blocks_sent
            if delivery.state is not State.HELD:
                failures.append(f"{node.name} is still {delivery.state}: {delivery.detail}")
        return HealingResult(sent, blocks, tuple(failures))

    def replace_damaged(self, dag: Dag, progress: Progress) -> dict[str, frozenset[int]]:
        """Overwrite the blocks of `dag` that are damaged on any node.

        Return the positions of missing blocks, by the peer id of each node that answers. Raises what reading
        `dag` raises, and UnexpectedResponseError when a node keeps the wrong bytes.
        """
        missing: dict[str, frozenset[int]] = {}
        for node in self._targets:
            if isinstance(node, ReplacesBlocks):
                with suppress(TransientError, RetryLaterError):
                    missing[node.peer_id()] = node.replace_damaged(dag, progress)
        return missing

    def read_intact(self, cid: Cid) -> bytes | None:
        """Return a block from the first node that has it, verified; None when none has."""
        found = (node.read_intact(cid) for node in self._targets if isinstance(node, ReplacesBlocks))
        return next((data for data in found if data is not None), None)

    def dag(self, root: Cid) -> Dag:
        """Return the DAG that the nodes serve together.

        Raises BlockUnavailableError or PeerError when they cannot serve it.
        """
        return gather(root, self._targets)

    def close(self) -> None:
        """Close every node."""
        for node in self._targets:
            node.close()
