"""The work of one step: the plan of a run, and its report when the step applies it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.cli.action.inputs import FailOn, Inputs, StepCommand, refuse_other_options
from reconciler.cli.interrupts import loaded_workspace
from reconciler.cli.proposals import pull_requests
from reconciler.errors import ExitCode, UsageError
from reconciler.forges.interface import ProposalResult
from reconciler.git.repository import git_directory
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Index
from reconciler.loop.changes import Blocked, Change, OutcomeState, Plan, Report
from reconciler.loop.plan_document import read_saved, require_same
from reconciler.loop.propose import RunSigning
from reconciler.loop.run import apply, make_plan
from reconciler.loop.settings import ProposeMode
from reconciler.loop.upstream import check_upstream
from reconciler.loop.upstream_finding import UpstreamFinding
from reconciler.loop.workspace import Workspace, run_lock
from reconciler.render.progress import Lines


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a step; `report` is None when the plan was not applied."""

    index: Index
    plan: Plan
    report: Report | None = None

    @property
    def proposal(self) -> ProposalResult | None:
        """The pull request that the step made or found."""
        return self.report.proposal if self.report is not None else None


def do_job(inputs: Inputs, environ: Mapping[str, str]) -> JobResult:
    """Make a plan, and apply it when the step acts and no safety rule refuses. Raises ReconcilerError.

    With a saved plan, the new plan is made with the options of the saved one; inputs that ask for others are
    refused.
    """
    saved = None if inputs.plan is None else read_saved(inputs.plan)
    if saved is not None:
        refuse_other_options(inputs, saved)
    scope = inputs.scope if saved is None else saved.scope(inputs.scope.layout)
    options = inputs.options if saved is None else saved.options
    if inputs.acts:
        _check_repository(scope.layout, options.propose)
    scope.layout.make_state()
    progress = Lines(sys.stderr)  # output goes to a log, even when the runner provides a terminal
    if not inputs.acts:
        with loaded_workspace(scope, environ, progress) as workspace:
            upstream = _upstream(workspace, inputs, environ)
            plan = _selected_plan(make_plan(workspace, options), inputs)
            return JobResult(workspace.index, replace(plan, upstream=upstream))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    requests = pull_requests(options.propose, environ)
    signing = _signing(environ) if inputs.sign else None
    with (
        run_lock(scope.layout.state, f"the action, {inputs.command.value}"),
        loaded_workspace(scope, environ, progress) as workspace,
    ):
        upstream = _upstream(workspace, inputs, environ)

        def select(made: Plan) -> Plan:
            return replace(_selected_plan(made, inputs), upstream=upstream)

        plan = select(make_plan(workspace, options))
        if saved is not None:
            require_same(saved, plan)
        if plan.refusals:
            return JobResult(workspace.index, plan)
        report = apply(plan, workspace, requests, only_this=saved is not None, select=select, signing=signing)
        return JobResult(workspace.index, report.plan, report)


def step_exit_code(done: JobResult, fail_on: FailOn) -> ExitCode:
    """Return the exit code of a step."""
    plan, report = done.plan, done.report
    if plan.refusals:
        return ExitCode.REFUSED
    if report is not None and report.interrupted:
        return ExitCode.INTERRUPTED
    failed = plan.blocked if report is None else report.failed
    left = changes_left(done)
    level = list(FailOn).index(fail_on)
    if failed and level >= list(FailOn).index(FailOn.FAILURE):
        return ExitCode.PARTIAL
    if any(change.drift for change in left) and level >= list(FailOn).index(FailOn.DRIFT):
        return ExitCode.PENDING
    return ExitCode.PENDING if left and fail_on is FailOn.CHANGE else ExitCode.OK


def changes_left(done: JobResult) -> list[Change]:
    """Return the changes that are still to be made; a change that is waiting is not one of them."""
    if done.report is None:
        return [change for change in done.plan.changes if change.kind != "wait"]
    settled = (OutcomeState.APPLIED, OutcomeState.WAITING)
    return [outcome.change for outcome in done.report.outcomes if outcome.state not in settled]


def _signing(environ: Mapping[str, str]) -> RunSigning:
    """Return the signer of the job: the key in the environment, or its identity. Raises ReconcilerError."""
    from reconciler.trust.signing import open_signer

    return RunSigning(open_signer(None, environ), environ)


def _upstream(
    workspace: Workspace, inputs: Inputs, environ: Mapping[str, str]
) -> tuple[UpstreamFinding, ...]:
    """Return the findings about sources; only for the command drift, which a schedule starts."""
    if inputs.command is not StepCommand.DRIFT:
        return ()
    return check_upstream(workspace, environ)


def _selected_plan(plan: Plan, inputs: Inputs) -> Plan:
    """Return the plan; for the command drift, only its changes of published versions."""
    if inputs.command is not StepCommand.DRIFT:
        return plan
    return replace(plan, changes=tuple(change for change in plan.changes if _is_drift(change)))


def _is_drift(change: Change) -> bool:
    """Return whether a change is drift, or may be because its target could not be checked."""
    return change.drift or (isinstance(change, Blocked) and change.unknown)


def _check_repository(layout: RepositoryLayout, propose: ProposeMode) -> None:
    """Raise UsageError outside of a git repository, where a proposal could only guess its paths."""
    directory = layout.index_file.parent.resolve()
    if propose is ProposeMode.PULL_REQUEST and git_directory(directory) is None:
        raise UsageError(
            f"{str(directory)!r} is not in a git repository",
            hint="run actions/checkout before this step, and set working-directory inside the clone",
        )
