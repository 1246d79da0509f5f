"""The state of every version on every target (`status`), and of its providers (`status --probe`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.content.piece_cid import PieceCid
from reconciler.deals.interface import CheckedDeal
from reconciler.deals.policy import DealVerdict, Decision
from reconciler.errors import BlockUnavailableError, Reason, ReconcilerError
from reconciler.index.model import Version
from reconciler.loop.borrowed import describe_loan
from reconciler.loop.costs import read_accounts
from reconciler.loop.deal_rules import blocked_by_unsatisfiable_policy, deal_decision, unconfirmed_deals
from reconciler.loop.log_coverage import LogCoverage, read_coverage
from reconciler.loop.observe import observe
from reconciler.loop.select import Selection
from reconciler.loop.signatures import SignatureState, signature_states
from reconciler.loop.workspace import Workspace
from reconciler.loop.world import World
from reconciler.probes import ProbeResult, ProbeTerms, Router, probe_providers
from reconciler.targets.interface import Check, State
from reconciler.targets.pricing import PayingAccount


@dataclass(frozen=True, slots=True)
class Holding:
    """One version on one target.

    `root` is None while the version has no CID. `decision` is what its policy requires of the deals there,
    None without a policy. A `suspended` version is shown as it is, and requires nothing. `borrowed` says
    whose pin keeps it and what happens when that is removed, "" where a pin of ours does.
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
    suspended: bool = False
    borrowed: str = ""

    @property
    def in_sync(self) -> bool:
        """Whether it is complete there and has the required deals, or is suspended."""
        satisfied = self.decision is None or self.decision.verdict is DealVerdict.SATISFIED
        return self.suspended or (self.state is State.HELD and self.root is not None and satisfied)


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """All holdings, in the order of the index.

    `unmet` are policies that no target of a version can meet, `notes` further notes; both are for people.
    `accounts` pay for targets that charge for what they keep, by target name. `signatures` are those of
    versions that have some or need them. `log` is None where no audit log is kept.
    """

    index_id: str
    check: Check
    holdings: tuple[Holding, ...]
    unmet: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    accounts: Mapping[str, PayingAccount] = field(default_factory=dict)
    signatures: tuple[SignatureState, ...] = ()
    log: LogCoverage | None = None

    @property
    def in_sync(self) -> bool:
        """Whether every version is complete on each of its targets, with required deals and signatures."""
        unsigned = any(each.problem for each in self.signatures)
        return not self.unmet and not unsigned and all(holding.in_sync for holding in self.holdings)

    @property
    def unknown(self) -> bool:
        """Whether a target could not be observed."""
        return any(holding.state is State.UNKNOWN for holding in self.holdings)


def observe_status(workspace: Workspace, check: Check) -> ReleaseStatus:
    """Observe every selected version on every target, all deals included."""
    selection = workspace.selection
    world = observe(workspace, check, all_deals=True)
    accounts, unread = read_accounts(workspace, world)
    blocked = (blocked_by_unsatisfiable_policy(version, selection, world) for version in selection.active)
    return ReleaseStatus(
        workspace.index.id,
        check,
        tuple(_holdings(selection, world)),
        unmet=tuple(f"{change.ref}: {change.reason}" for change in blocked if change is not None),
        notes=(*unconfirmed_deals(selection, world), *unread),
        accounts=accounts,
        signatures=tuple(signature_states(selection)),
        log=read_coverage(workspace.index, workspace.audit, str(workspace.layout.targets_file)),
    )


def _holdings(selection: Selection, world: World) -> Iterator[Holding]:
    names = {spec.name for spec in selection.targets}
    for version in selection.kept:
        for target in version.targets:
            if target in names:
                yield _holding(version, target, selection, world)


def _holding(version: Version, target: str, selection: Selection, world: World) -> Holding:
    root = world.root(version)
    inventory = world.inventories[target]
    holding = partial(Holding, version.model, version.version, target, root, suspended=version.suspended)
    if isinstance(inventory, Reason):
        return holding(State.UNKNOWN, detail=inventory.text)
    if root is None:
        problem = world.problems.get(version.ref)
        return holding(
            State.ABSENT, detail=problem.text if problem else "no CID yet, and its directory is not here"
        )
    seen = inventory.observations[root]
    return holding(
        seen.state,
        labels=seen.labels,
        damaged=len(seen.damaged),
        checked=seen.checked,
        detail=seen.detail,
        pieces=seen.pieces,
        deals=seen.deals,
        decision=deal_decision(version, seen, world.capabilities[target]),
        borrowed=describe_loan(version, target, selection, world),
    )


# --- probing of providers


@dataclass(frozen=True, slots=True)
class Probed:
    """The findings about one version; `problem` is the reason why there are none, or ""."""

    model: str
    version: str
    root: Cid
    findings: tuple[ProbeResult, ...] = ()
    problem: str = ""


def probe_versions(
    workspace: Workspace, router: Router, terms: ProbeTerms, random: Random
) -> tuple[Probed, ...]:
    """Probe every selected version that has a CID; a root of several versions once."""
    return tuple(_probed_versions(workspace, router, terms, random))


def _probed_versions(
    workspace: Workspace, router: Router, terms: ProbeTerms, random: Random
) -> Iterator[Probed]:
    known: dict[Cid, Probed] = {}
    versions = [(version, version.cid) for version in workspace.selection.kept if version.cid is not None]
    with workspace.progress.task("probing providers (versions)", len(versions)) as task:
        for version, root in versions:
            if root not in known:
                known[root] = _probed(workspace, version, root, router, terms, random)
            task.advance(1)
            found = known[root]
            yield Probed(version.model, version.version, root, found.findings, found.problem)


def _probed(
    workspace: Workspace, version: Version, root: Cid, router: Router, terms: ProbeTerms, random: Random
) -> Probed:
    try:
        layout = _dag_layout(workspace, version, root)
        findings = probe_providers(layout, router.providers(root), terms, random)
    except ReconcilerError as error:
        return Probed(version.model, version.version, root, problem=error.message)
    return Probed(version.model, version.version, root, findings)


def _dag_layout(workspace: Workspace, version: Version, root: Cid) -> DagLayout:
    """Return the layout of `root`, read from a target, or from the version's own directory."""
    for target in workspace.targets.values():
        if target.capabilities.serves_blocks:
            try:
                with closing(target.dag(root)) as dag:
                    return dag.layout
            except ReconcilerError:
                continue
    if workspace.sources.present([version]):
        return workspace.sources.identify(version).layout
    raise BlockUnavailableError(
        "its leaves are unknown: neither a target nor a directory on this machine has its blocks"
    )
