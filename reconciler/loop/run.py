"""The chain: load, observe, identify what is needed, plan, refuse or apply. One `Run` is one look at the
world.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from reconciler.content.car import ShardedCar, Sharding
from reconciler.content.cid import Cid
from reconciler.content.identity_cache import IdentityCache
from reconciler.errors import ReconcilerError, SafetyError
from reconciler.forges.interface import ProposalResult
from reconciler.index.history import check_frozen
from reconciler.index.load import load_index
from reconciler.index.model import Version
from reconciler.index.recorded import check_records, recorded_pieces
from reconciler.index.targets_file import load_targets
from reconciler.loop.apply import apply_plan
from reconciler.loop.changes import Change, OnTarget, Plan, Report, Unpin, WriteBack, WriteRecord
from reconciler.loop.observe import Expectations, cuts, observe
from reconciler.loop.plan import lacking, make_changes, removals, unconfirmed
from reconciler.loop.propose import Proposer, PullRequests, unrecorded
from reconciler.loop.safety import SafetyLimits, refusals
from reconciler.loop.select import Selection, select
from reconciler.loop.settings import PROPOSAL_BRANCH, Drift, ProposeMode, Settings
from reconciler.loop.sources import PieceCache, SourceDirectories
from reconciler.loop.stopping import Stoppable
from reconciler.loop.world import Unreachable, World
from reconciler.net.retry import RetryBudget
from reconciler.progress import Progress
from reconciler.targets.interface import Capabilities, Check, Expected, Inventory, RunTerms, State, Target
from reconciler.targets.open import open_target


class Run:
    """One run over one index. Use it as a context manager; it closes the targets and files it opened.

    Raises InvalidIndex, UsageError when made from an index or flags that do not hold.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        progress: Progress,
        pull_requests: PullRequests | None = None,
    ) -> None:
        layout = settings.layout
        stamps = layout.cache if settings.use_cache else None
        self.settings = settings
        self.proposal: ProposalResult | None = None  #: the pull request that `apply` made or found
        self._pull_requests = pull_requests
        self.progress = Stoppable(progress)
        self.index = load_index(layout.index_file, stamps=stamps)
        self._index_text = layout.index_file.read_bytes()
        specs = load_targets(layout.targets_file, stamp_directory=stamps)
        self._recorded = check_records(self.index, stamps)
        self._targets_text = layout.targets_file.read_bytes() if layout.targets_file.exists() else b""
        self.selection: Selection = select(self.index, specs, settings.only, settings.exclude)
        cache = IdentityCache(layout.cache / "identities") if settings.use_cache else None
        piece_cache = PieceCache(layout.cache / "pieces") if settings.use_cache else None
        self.sources = SourceDirectories(layout.source_root, cache, self.progress, piece_cache)
        self._targets: dict[str, Target] = {}
        self.unopened: dict[str, Unreachable] = {}  #: targets that could not be opened, and why
        terms = RunTerms(settings.allow_unpin_repair, RetryBudget(), stamps, self.progress)
        for spec in self.selection.targets:
            try:
                self._targets[spec.name] = open_target(spec, root=layout.root, environ=environ, terms=terms)
            except ReconcilerError as error:
                self.unopened[spec.name] = Unreachable(str(error), error.hint or "")
        self._pieces = recorded_pieces(self.index, (v for v in self.selection.kept if self.cuts(v)))

    @property
    def targets(self) -> Mapping[str, Target]:
        """The targets that could be opened, by name."""
        return self._targets

    def observe(self, *, all_deals: bool = False) -> World:
        """Look at everything the plan needs, reading weights only where it cannot be helped.

        With `all_deals` also at deals that no policy asks for.
        """
        selection, settings = self.selection, self.settings
        unresolved = [version for version in selection.kept if version.cid is None]
        present = self.sources.present(unresolved)
        for version in unresolved:
            if version.ref in present:
                self.sources.try_identify(version)
        facts = self.sources.facts()
        roots = {v.ref: v.cid or facts[v.ref].root for v in selection.kept if v.cid or v.ref in facts}
        for ref, recorded in self._pieces.items():
            for each in recorded if ref in roots else ():
                self.sources.keep_pieces(roots[ref], each)
        opened = {name: target.capabilities for name, target in self._targets.items()}
        expectations = Expectations(selection, opened, self._pieces, all_deals)
        inventories: dict[str, Inventory | Unreachable] = dict(self.unopened)
        inventories.update(
            observe(
                list(self._targets.values()),
                expectations.of(roots, self.sources),
                settings.check,
                self.index.mark,
                self.progress,
            )
        )
        world = World(
            inventories=inventories,
            capabilities={spec.name: Capabilities() for spec in selection.targets} | opened,
            present=present,
            recorded=self._recorded,
            uncut=expectations.uncut(),
        )
        needy = {version.ref: version for version, _ in lacking(selection, self._with_sources(world))}
        needy |= {version.ref: version for version in unrecorded(selection, self._with_sources(world))}
        present |= self.sources.present(needy.values())
        for version in needy.values():
            if version.ref in present and version.ref not in facts:
                self.sources.try_identify(version)
        world = replace(self._with_sources(world), present=present)
        orphans = {
            root
            for version in needy.values()
            if (root := world.root(version)) is not None
            and version.ref not in world.facts
            and not any(world.holders(root, states=frozenset({State.HELD})))
        }
        return replace(world, donors=self._donors(orphans)) if orphans else world

    def _with_sources(self, world: World) -> World:
        return replace(world, facts=self.sources.facts(), problems=self.sources.problems())

    def plan(self) -> Plan:
        """Everything that differs, and the rules that stop the run."""
        settings, index = self.settings, self.index
        frozen = check_frozen(
            index,
            base=settings.base,
            cache=settings.layout.cache if settings.use_cache else None,
        )
        world = self.observe()
        changes, in_sync = make_changes(
            self.selection, world, prune=settings.prune, propose=settings.propose is not ProposeMode.NONE
        )
        notes = [
            f"{name}: {note}"
            for name, inventory in world.inventories.items()
            if isinstance(inventory, Inventory)
            for note in inventory.notes
        ]
        notes += unconfirmed(self.selection, world)
        if not frozen.complete:
            notes.append(f"frozen CIDs were compared with {frozen.checked}")
        if settings.propose is ProposeMode.BRANCH:
            changes, said = self._without_proposed(changes)
            notes += said
        if settings.drift is Drift.IGNORE:
            changes, left_out = _without_drift(changes)
            if left_out:
                notes.append(f"{left_out} changes that are drift were left out (--drift ignore)")
        if not settings.prune:
            notes += _prunable(self.selection, world, changes)
        return Plan(
            index_id=index.id,
            index_digest=index.digest,
            targets_digest=hashlib.sha256(self._targets_text).hexdigest(),
            check=settings.check.value,
            changes=tuple(changes),
            in_sync=in_sync,
            notes=tuple(notes),
            refusals=refusals(
                index,
                changes,
                world.inventories,
                frozen.violations,
                SafetyLimits(removals=settings.allow_removals),
            ),
        )

    def apply(self, plan: Plan) -> Report:
        """Carry out a plan of this run. Raises SafetyError before anything is done when a rule stops it."""
        if plan.refusals:
            first = plan.refusals[0]
            more = f" (and {len(plan.refusals) - 1} more)" if len(plan.refusals) > 1 else ""
            raise SafetyError(f"refused: {first.message}{more}", hint=first.override)
        proposer = self._proposer()
        proposing = any(isinstance(change, WriteBack) for change in plan.changes)
        if proposing:
            proposer.check()
        versions: dict[str, Version] = {version.ref: version for version in self.index.versions()}
        report = apply_plan(
            plan,
            targets=self._targets,
            versions=versions,
            sources=self.sources,
            propose=proposer,
            progress=self.progress,
            report_only=self._report_only,
        )
        resolved = all(version.cid or version.retired for version in self.index.versions())
        if resolved and not proposing and not report.interrupted:  # else another run's proposal may be needed
            proposer.tidy()
        self.proposal = proposer.result
        return report

    def _proposer(self) -> Proposer:
        return Proposer(
            self.settings, self._index_text, self.sources.identities, self._pull_requests, self._pieces_for
        )

    def _pieces_for(self, change: WriteRecord) -> tuple[ShardedCar, ...]:
        return tuple(self.sources.pieces(change.ref, cut) for cut in change.cuts)

    def cuts(self, version: Version) -> tuple[Sharding, ...]:
        """How the targets of `version` cut it into pieces; those that could not be opened left out."""
        return cuts(version, {name: target.capabilities for name, target in self._targets.items()})

    def _without_proposed(self, changes: list[Change]) -> tuple[list[Change], list[str]]:
        """`changes` without the proposal that waits on its branch already, and a note that says so."""
        proposed = [change for change in changes if isinstance(change, WriteBack)]
        if not proposed or not all(change.held for change in proposed):
            return changes, []
        if not self._proposer().is_proposed(proposed):
            return changes, []
        refs = len({change.ref for change in proposed})
        note = f"the branch {PROPOSAL_BRANCH} proposes the CIDs of {refs} versions; merge it"
        return [change for change in changes if not isinstance(change, WriteBack)], [note]

    def _report_only(self, change: Change) -> bool:
        return self.settings.drift is Drift.REPORT and change.drift

    def _donors(self, roots: set[Cid]) -> dict[str, frozenset[Cid]]:
        """Targets that hold `roots` although no version asks them to: asked only when nobody else has the
        bytes.
        """
        able = [target for target in self._targets.values() if target.capabilities.serves_blocks]
        asked = {target.name: [Expected(root, ()) for root in roots] for target in able}
        seen = observe(able, asked, Check.QUICK, self.index.mark, self.progress)
        return {
            name: frozenset(root for root, o in inventory.observations.items() if o.state is State.HELD)
            for name, inventory in seen.items()
            if isinstance(inventory, Inventory)
        }

    def close(self) -> None:
        """Close targets and files."""
        self.sources.close()
        for target in self._targets.values():
            target.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _without_drift(changes: Sequence[Change]) -> tuple[list[Change], int]:
    """`changes` without drift, and how many were left out. A root that drifted is unpinned nowhere."""
    drifted = {change.root for change in changes if change.drift}
    kept = [c for c in changes if not c.drift and not (isinstance(c, Unpin) and c.root in drifted)]
    return kept, len(changes) - len(kept)


def _prunable(selection: Selection, world: World, changes: Sequence[Change]) -> list[str]:
    """What --prune would remove, as a note: it is off, and nobody should be surprised later."""
    planned = {(change.target, change.root) for change in changes if isinstance(change, OnTarget)}
    count = sum(1 for _ in removals(selection, world, planned))
    return [f"{count} pins of ours are no longer asked for; --prune would remove them"] if count else []
