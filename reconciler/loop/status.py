"""What every target holds of every version, in order or not: the view behind `reconcile status`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from reconciler.content.cid import Cid
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedDeal
from reconciler.deals.policy import DealVerdict, Decision
from reconciler.index.model import Version
from reconciler.loop.plan import decision_of, nowhere, unconfirmed
from reconciler.loop.run import Run
from reconciler.loop.select import Selection
from reconciler.loop.world import Unreachable, World
from reconciler.targets.interface import State


@dataclass(frozen=True, slots=True)
class Holding:
    """One version on one target. `root` is None while the version has no CID; `decision` is what its policy
    says of the deals there, None where it has none.
    """

    model: str
    version: str
    target: str
    root: Cid | None
    state: State
    labels: tuple[str, ...] = ()
    damaged: int = 0
    checked: str = ""
    detail: str = ""
    pieces: tuple[PieceCid, ...] = ()
    deals: tuple[CheckedDeal, ...] = ()
    decision: Decision | None = None

    @property
    def in_sync(self) -> bool:
        """Whether it is whole there and has the deals it should have."""
        satisfied = self.decision is None or self.decision.verdict is DealVerdict.SATISFIED
        return self.state is State.HELD and self.root is not None and satisfied


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """All holdings, as the index lists the versions.

    `unmet` are policies that no target of a version can meet, `notes` what else a user should know, both in
    words.
    """

    index_id: str
    check: str
    holdings: tuple[Holding, ...]
    unmet: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def in_sync(self) -> bool:
        """Whether every version is whole wherever it should be, with the deals it should have."""
        return not self.unmet and all(holding.in_sync for holding in self.holdings)

    @property
    def unknown(self) -> bool:
        """Whether a target could not be looked at."""
        return any(holding.state is State.UNKNOWN for holding in self.holdings)


def look(run: Run) -> ReleaseStatus:
    """Observe everything `run` selects."""
    world = run.observe(all_deals=True)
    missing = {version.ref: nowhere(version, run.selection, world) for version in run.selection.kept}
    return ReleaseStatus(
        run.index.id,
        run.settings.check.value,
        tuple(_holdings(run.selection, world)),
        unmet=tuple(f"{ref}: {blocked.reason}" for ref, blocked in missing.items() if blocked),
        notes=tuple(unconfirmed(run.selection, world)),
    )


def _holdings(selection: Selection, world: World) -> Iterator[Holding]:
    names = {spec.name for spec in selection.targets}
    for version in selection.kept:
        for target in version.targets:
            if target in names:
                yield _holding(version, target, world)


def _holding(version: Version, target: str, world: World) -> Holding:
    root = world.root(version)
    inventory = world.inventories[target]
    plain = partial(Holding, version.model, version.version, target, root)
    if isinstance(inventory, Unreachable):
        return plain(State.UNKNOWN, detail=inventory.reason)
    if root is None:
        problem = world.problems.get(version.ref)
        return plain(
            State.ABSENT, detail=problem.reason if problem else "no CID yet, and its directory is not here"
        )
    seen = inventory.observations[root]
    return plain(
        seen.state,
        labels=seen.labels,
        damaged=len(seen.damaged),
        checked=seen.checked,
        detail=seen.detail,
        pieces=seen.pieces,
        deals=seen.deals,
        decision=decision_of(version, seen, world.capabilities[target]),
    )
