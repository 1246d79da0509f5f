"""The work of one step: the loop's plan, and where it was asked for, the loop's report."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from reconciler.cli.action.inputs import FailOn, Inputs, StepCommand
from reconciler.cli.loop_commands import pull_requests
from reconciler.errors import ExitCode, UsageError
from reconciler.forges.interface import ProposalResult
from reconciler.index.model import Index
from reconciler.loop.changes import Blocked, Change, Plan, Report
from reconciler.loop.run import Run
from reconciler.loop.saved import read_saved, require_same
from reconciler.loop.settings import ProposeMode, Settings, run_lock
from reconciler.render.progress import Lines


@dataclass(frozen=True, slots=True)
class Done:
    """What a step found, and what it did; `report` is None where nothing was carried out."""

    index: Index
    plan: Plan
    report: Report | None = None
    proposal: ProposalResult | None = None


def do_job(inputs: Inputs, environ: Mapping[str, str]) -> Done:
    """Plan, and carry it out unless the step only looks or a safety rule refuses. Raises ReconcilerError."""
    settings = inputs.settings
    if inputs.acts:
        _check_repository(settings)
    saved = None if inputs.plan is None else read_saved(inputs.plan)
    settings.layout.make_state()
    progress = Lines(sys.stderr)  # a log, also where a runner gives the step a terminal
    if not inputs.acts:
        with Run(settings, environ, progress) as run:
            return Done(run.index, _asked_for(run.plan(), inputs))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        run_lock(settings.layout.state, f"the action, {inputs.command.value}"),
        Run(settings, environ, progress, pull_requests(settings, environ)) as run,
    ):
        plan = _asked_for(run.plan(), inputs)
        if saved is not None:
            require_same(saved, plan)
        if plan.refusals:
            return Done(run.index, plan)
        return Done(run.index, plan, run.apply(plan), run.proposal)


def verdict(done: Done, fail_on: FailOn) -> ExitCode:
    """What the step exits with."""
    plan, report = done.plan, done.report
    if plan.refusals:
        return ExitCode.REFUSED
    if report is not None and report.interrupted:
        return ExitCode.INTERRUPTED
    failed = plan.blocked if report is None else report.failed
    left = changes_left(done)
    asked = list(FailOn).index(fail_on)
    if failed and asked >= list(FailOn).index(FailOn.FAILURE):
        return ExitCode.PARTIAL
    if any(change.drift for change in left) and asked >= list(FailOn).index(FailOn.DRIFT):
        return ExitCode.PENDING
    return ExitCode.PENDING if left and fail_on is FailOn.CHANGE else ExitCode.OK


def changes_left(done: Done) -> list[Change]:
    """The changes that are still to be made; what is on its way is none of them."""
    if done.report is None:
        return [change for change in done.plan.changes if change.kind != "wait"]
    settled = ("applied", "waiting")
    return [outcome.change for outcome in done.report.outcomes if outcome.state not in settled]


def _asked_for(plan: Plan, inputs: Inputs) -> Plan:
    """The plan, or of the command drift that part which is about what was published before."""
    if inputs.command is not StepCommand.DRIFT:
        return plan
    return replace(plan, changes=tuple(change for change in plan.changes if _is_drift(change)))


def _is_drift(change: Change) -> bool:
    """Drift, or a target that could not be looked at: nobody knows whether that drifted."""
    return change.drift or (isinstance(change, Blocked) and change.unknown)


def _check_repository(settings: Settings) -> None:
    """Raise UsageError where a proposal would name its files as seen from a folder of the repository."""
    if settings.propose is ProposeMode.PULL_REQUEST and not (settings.layout.root / ".git").exists():
        raise UsageError(
            f"{os.getcwd()!r} is not the top of a git repository",  # noqa: PTH109 - as the user knows it
            hint="check out with actions/checkout first; the input working-directory says where to",
        )
