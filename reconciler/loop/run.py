"""The chain of one run: load, observe, plan, apply.

    with load(scope, environ, progress) as workspace:   # workspace.py: index, targets and sources, read once
        plan = make_plan(workspace, options)            # observe.py, plan.py, safety.py
        report = apply(plan, workspace)                 # apply.py, propose.py

Every step returns a frozen value that the next one takes. When a directory turns out to have other bytes than
the plan was made from, `apply` makes and applies another plan, from the same index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from reconciler.errors import ReconcilerError, SafetyError
from reconciler.index.history import check_frozen
from reconciler.loop.apply import apply_plan
from reconciler.loop.borrowed import describe_loans
from reconciler.loop.changes import (
    Change,
    OnTarget,
    OutcomeState,
    Plan,
    Report,
    StreamVersion,
    Unpin,
    Wait,
    WriteBack,
)
from reconciler.loop.costs import price_changes
from reconciler.loop.deal_rules import unconfirmed_deals
from reconciler.loop.log_leaves import LeafScope, leaf_changes
from reconciler.loop.observe import observe
from reconciler.loop.plan import make_changes, removals
from reconciler.loop.propose import Proposer, PullRequests, RunSigning
from reconciler.loop.published import edits_without_effect
from reconciler.loop.safety import SafetyLimits, refusals
from reconciler.loop.sealing_rules import SealingFacts, changed_key_refusals, privacy_notes, unsealed_refusals
from reconciler.loop.select import Selection
from reconciler.loop.settings import Drift, ProposeMode, RunOptions
from reconciler.loop.workspace import Workspace
from reconciler.loop.world import World
from reconciler.targets.interface import Inventory

_MORE_PLANS = 2  # of one run, when directories change during it


def make_plan(workspace: Workspace, options: RunOptions) -> Plan:
    """Observe the targets; return everything that differs, and the rules that stop the run.

    Raises UsageError when `base` names no commit, UserError when git cannot read the repository.
    """
    index, selection, scope = workspace.index, workspace.selection, workspace.scope
    frozen = check_frozen(index, base=options.base, cache=scope.cache)
    world = observe(workspace, options.check)
    changes, in_sync = make_changes(
        selection, world, prune=options.prune, propose=options.propose is not ProposeMode.NONE
    )
    if options.propose is not ProposeMode.NONE and workspace.audit.log is not None:
        whole = not scope.only and not scope.exclude
        changes += list(leaf_changes(index, LeafScope(selection.versions, whole), changes))
    notes = [
        f"{name}: {note}"
        for name, inventory in world.inventories.items()
        if isinstance(inventory, Inventory)
        for note in inventory.notes
    ]
    notes += describe_loans(selection, world)
    notes += unconfirmed_deals(selection, world)
    suspended = tuple(version.ref for version in selection.versions if version.suspended)
    if suspended:
        notes.append(f"suspended in the index and left alone: {_listed(suspended)}")
    notes += _unused_patterns(workspace)
    notes += edits_without_effect(index, selection.kept, workspace.made_from)
    sealing = _sealing_facts(workspace)
    notes += workspace.sources.seals.outdated(index)
    notes += privacy_notes(changes, sealing)
    new = [version for version in selection.versions if version.cid is None]
    notes += [f"{version.ref}: {note}" for version in new for note in workspace.sources.notes(version)]
    if not frozen.complete:
        notes.append(f"frozen CIDs were compared with {frozen.checked}")
    if options.propose is ProposeMode.BRANCH:
        changes, proposed = _without_proposed(changes, workspace)
        notes += proposed
    if options.drift is Drift.IGNORE:
        changes, ignored = _without_drift(changes)
        if ignored:
            notes.append(f"{ignored} changes that are drift were left out (--drift ignore)")
    if not options.prune:
        notes += _prunable(selection, world, changes)
    priced = price_changes(changes, workspace, world, options.drift)
    return Plan(
        index_id=index.id,
        index_digest=index.digest,
        targets_digest=workspace.targets_digest,
        options=options,
        changes=priced.changes,
        in_sync=in_sync,
        notes=tuple(notes),
        refusals=(
            *refusals(
                index,
                changes,
                world.inventories,
                frozen.violations,
                SafetyLimits(removals=options.allow_removals),
            ),
            *unsealed_refusals(changes, sealing),
            *changed_key_refusals(changes, sealing),
            *priced.refusals,
        ),
        findings=workspace.sources.findings(),
        only=scope.only,
        exclude=scope.exclude,
        suspended=suspended,
        accounts=priced.accounts,
    )


def _sealing_facts(workspace: Workspace) -> SealingFacts:
    sources, models = workspace.sources, workspace.index.models.values()
    return SealingFacts(
        versions={version.ref: version for version in workspace.selection.versions},
        targets=workspace.selection.targets,
        sealing={ref: sources.inputs(ref).sealing for ref in sources.facts()},
        recorded=workspace.made_from,
        sealed_models=[model.name for model in models if sources.seals.sealed_before(model.name)],
        unsealed_models=[model.name for model in models if model.seal_off],
    )


def apply(
    plan: Plan,
    workspace: Workspace,
    pull_requests: PullRequests | None = None,
    *,
    only_this: bool = False,
    select: Callable[[Plan], Plan] = lambda made: made,
    signing: RunSigning | None = None,
) -> Report:
    """Carry out a plan that was made from `workspace`.

    When directories turn out to have changed, they are identified again, and another plan is made and carried
    out, as far as `select` keeps its changes; `only_this` forbids that. With `signing`, the versions that the
    run resolves are signed. The report is then about all plans.
    Raises SafetyError when a safety rule refuses the plan, and UserError when its proposal is impossible;
    nothing is done then.
    """
    report = _apply_one(plan, workspace, pull_requests, signing, planned_again=not only_this)
    followed: frozenset[str] = frozenset()
    for left in range(1 if only_this else _MORE_PLANS, 0, -1):
        changed = frozenset() if report.interrupted or only_this else workspace.sources.renew()
        streamed = _streamed(report) - followed
        followed |= streamed
        if report.interrupted or not (changed or streamed):
            break
        if changed:
            workspace.progress.note(f"changed during the run, identified again: {', '.join(sorted(changed))}")
        try:
            again = select(make_plan(workspace, plan.options))
            if only_this:
                again = _only_about(again, streamed)
            report = _merged(
                report,
                _apply_one(again, workspace, pull_requests, signing, planned_again=left > 1),
                workspace,
            )
        except KeyboardInterrupt:
            return replace(report, interrupted=True)
        except ReconcilerError as error:
            workspace.progress.note(f"not planned again: {error}")
            followed -= streamed
            break
    workspace.sources.renew()  # for the next run
    _discard_spooled(report, workspace, unplanned=_streamed(report) - followed)
    return report


def _discard_spooled(report: Report, workspace: Workspace, *, unplanned: frozenset[str]) -> None:
    """Remove what spools have of versions that no target lacks after `report`.

    `unplanned` are those that were streamed, and whose deliveries were not planned.
    """
    remote = workspace.sources.remote
    if remote is None or report.interrupted:
        return
    settled = (OutcomeState.APPLIED, OutcomeState.WAITING)
    lacking = unplanned.union(o.change.ref for o in report.outcomes if o.state not in settled)
    for version in workspace.selection.active:
        if version.ref not in lacking:
            remote.discard_spooled(version)


def _apply_one(
    plan: Plan,
    workspace: Workspace,
    pull_requests: PullRequests | None,
    signing: RunSigning | None,
    *,
    planned_again: bool,
) -> Report:
    if plan.refusals:
        first = plan.refusals[0]
        more = f" (and {len(plan.refusals) - 1} more)" if len(plan.refusals) > 1 else ""
        raise SafetyError(f"refused: {first.message}{more}", hint=first.override)
    proposer = Proposer(workspace, plan.options.propose, pull_requests, signing)
    proposing = any(isinstance(change, (WriteBack, StreamVersion)) for change in plan.changes)
    if proposing:
        proposer.check()
    report = apply_plan(
        plan,
        targets=workspace.targets,
        versions={version.ref: version for version in workspace.index.versions()},
        sources=workspace.sources,
        propose=proposer.propose,
        progress=workspace.progress,
        planned_again=planned_again,
    )
    resolved = all(v.cid or v.retired or v.suspended for v in workspace.index.versions())
    unsettled = proposing or report.interrupted or (planned_again and workspace.sources.changed())
    if resolved and not unsettled:  # else another run's proposal may be needed
        proposer.close_finished()
    return replace(report, proposal=proposer.result)


def _streamed(report: Report) -> frozenset[str]:
    """Return the versions whose root is known since this report, as `model@version`."""
    return frozenset(
        outcome.change.ref
        for outcome in report.outcomes
        if isinstance(outcome.change, StreamVersion) and outcome.state is OutcomeState.APPLIED
    )


def _only_about(plan: Plan, refs: frozenset[str]) -> Plan:
    """Return `plan` with what follows for `refs`, and nothing else; a pin is never removed."""
    kept = (change for change in plan.changes if change.ref in refs and not isinstance(change, Unpin))
    return replace(plan, changes=tuple(kept))


def _merged(first: Report, second: Report, workspace: Workspace) -> Report:
    """Return the report of a run that made two plans: what the first one achieved, then the second one."""
    done = [
        outcome
        for outcome in first.outcomes
        if isinstance(outcome.change, (OnTarget, StreamVersion))
        and outcome.state in (OutcomeState.APPLIED, OutcomeState.WAITING)
    ]
    waiting = {(o.change.target, o.change.root) for o in done if o.state is OutcomeState.WAITING}
    applied = {(o.change.target, o.change.root) for o in done if o.state is OutcomeState.APPLIED}
    outcomes = done + [
        outcome
        for outcome in second.outcomes
        if not isinstance(outcome.change, Wait) or (outcome.change.target, outcome.change.root) not in waiting
    ]
    facts = workspace.sources.facts()
    pairs = [
        (target, version.cid or (facts[version.ref].root if version.ref in facts else None))
        for version in workspace.selection.kept
        for target in version.targets
    ]
    plan = replace(
        second.plan,
        changes=tuple(outcome.change for outcome in outcomes),
        in_sync=max(0, second.plan.in_sync - sum(pair in applied for pair in pairs)),
    )
    return replace(second, plan=plan, outcomes=tuple(outcomes))


def _listed(refs: Sequence[str]) -> str:
    """Return the first ten of `refs`, and how many more there are."""
    more = f" and {len(refs) - 10} more" if len(refs) > 10 else ""
    return ", ".join(refs[:10]) + more


def _unused_patterns(workspace: Workspace) -> Iterator[str]:
    """Yield a note for each pattern that matches nothing in a new version, except the index's defaults."""
    defaults = {*workspace.index.patterns.include, *workspace.index.patterns.exclude}
    for version in workspace.selection.kept:
        unused = workspace.sources.unused_patterns(version) if version.cid is None else ()
        if shown := [repr(text) for text in unused if text not in defaults]:
            yield f"{version.ref}: patterns match nothing in {version.origin}: {', '.join(shown)}"


def _without_proposed(changes: list[Change], workspace: Workspace) -> tuple[list[Change], list[str]]:
    """Return `changes` without those that the proposal branch contains already, and a note about them."""
    proposed = [change for change in changes if isinstance(change, WriteBack)]
    if not proposed or not all(change.held for change in proposed):
        return changes, []
    branch = Proposer(workspace, ProposeMode.BRANCH).proposed_on(proposed)
    if branch is None:
        return changes, []
    refs = len({change.ref for change in proposed})
    note = f"the branch {branch} proposes the CIDs of {refs} versions; merge it"
    return [change for change in changes if not isinstance(change, WriteBack)], [note]


def _without_drift(changes: Sequence[Change]) -> tuple[list[Change], int]:
    """Return `changes` without drift, and how many were left out; a root that drifted is not unpinned."""
    drifted = {change.root for change in changes if change.drift}
    kept = [c for c in changes if not c.drift and not (isinstance(c, Unpin) and c.root in drifted)]
    return kept, len(changes) - len(kept)


def _prunable(selection: Selection, world: World, changes: Sequence[Change]) -> list[str]:
    """Return a note about the pins that --prune would remove."""
    planned = {(change.target, change.root) for change in changes if isinstance(change, OnTarget)}
    count = sum(1 for _ in removals(selection, world, planned))
    return [f"{count} pins of ours are no longer wanted; --prune would remove them"] if count else []
