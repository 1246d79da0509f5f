"""The loop: a run without a command, and the commands plan and apply."""

from __future__ import annotations

import json
import os
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.interrupts import loaded_workspace, show_interrupted
from reconciler.cli.options import (
    AllowRemovals,
    AllowUnpinRepair,
    Base,
    CheckDepth,
    Directory,
    DriftAction,
    Exclude,
    ExitCodeFlag,
    IndexFile,
    Json,
    NoCache,
    Only,
    Propose,
    Prune,
    SourceRoot,
    TargetsFile,
)
from reconciler.errors import ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.loop.settings import Drift, ProposeMode, RunOptions, Scope
from reconciler.render.words import plain
from reconciler.targets.check import Check

if TYPE_CHECKING:
    from reconciler.loop.changes import Plan, Report
    from reconciler.loop.plan_document import SavedPlan

loop_commands = typer.Typer()


class PlanFormat(StrEnum):
    """The output format of a plan."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    MATRIX = "matrix"  #: JSON for the strategy matrix of a workflow


@loop_commands.command()
def plan(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Save the plan for `reconcile apply FILE`."),
    ] = None,
    format: Annotated[  # noqa: A002 - the name of the option
        PlanFormat,
        typer.Option(
            "--format",
            help="Output format; matrix lists the versions to publish as JSON for a job's strategy matrix.",
        ),
    ] = PlanFormat.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    exit_code: ExitCodeFlag = False,
    only: Only = None,
    exclude: Exclude = None,
    check: CheckDepth = Check.QUICK,
    drift: DriftAction = Drift.REPAIR,
    propose: Propose = ProposeMode.WRITE,
    prune: Prune = False,
    allow_removals: AllowRemovals = None,
    allow_unpin_repair: AllowUnpinRepair = False,  # noqa: ARG001  for scripts of earlier versions
    base: Base = None,
    identify: Annotated[
        bool,
        typer.Option(
            "--identify",
            help="Read new versions from their remote sources to show their CIDs; nothing is published.",
        ),
    ] = False,
    no_cache: NoCache = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Show what a run would do, and change nothing.

    `reconcile apply FILE` carries out the plan saved with -o, and refuses when anything changed since.
    """
    if as_json and format not in (PlanFormat.TEXT, PlanFormat.JSON):
        raise UsageError(f"--json and --format {format} request different formats", hint="choose one")
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError(f"cannot save to {str(output)!r}", hint="name a file in an existing directory")
    layout = find_layout(directory, index, targets, source_root)
    scope = Scope(layout, tuple(only or ()), tuple(exclude or ()), use_cache=not no_cache)
    options = RunOptions(check, drift, propose, prune, allow_removals, base)
    return show_plan(
        scope,
        options,
        PlanFormat.JSON if as_json else format,
        output=output,
        exit_code=exit_code,
        read_sources=identify,
    )


@loop_commands.command()
def apply(
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN", help="File written by `reconcile plan -o FILE`.")
    ],
    as_json: Json = False,
    no_cache: NoCache = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Carry out a saved plan, with the options it was made with.

    Exits with 4 when the index, the targets or what they hold changed since the plan was made.
    """
    from reconciler.loop.plan_document import read_saved

    layout = find_layout(directory, index, targets, source_root)
    saved = read_saved(plan_file)
    scope = saved.scope(layout, use_cache=not no_cache)
    return run_loop(scope, saved.options, as_json=as_json, saved=saved)


def show_plan(
    scope: Scope,
    options: RunOptions,
    format: PlanFormat,  # noqa: A002 - the name of the option
    *,
    output: Path | None = None,
    exit_code: bool = False,
    read_sources: bool = False,
) -> int:
    """Make a plan, save it to `output`, and print it. Takes no lock and writes nothing else but caches.

    With `read_sources`, new versions are read from their remote sources first.
    """
    from reconciler.loop.plan_document import save_plan
    from reconciler.loop.run import make_plan
    from reconciler.loop.stream_changes import identify_sources

    scope.layout.make_state()
    with (
        out.progress() as progress,
        loaded_workspace(scope, os.environ, progress) as workspace,
    ):
        if read_sources:
            identify_sources(workspace.selection, workspace.sources)
        made = make_plan(workspace, options)
    if output is not None:
        save_plan(output, made)
    _print_plan(made, format)
    if made.refusals:
        return ExitCode.REFUSED
    if made.blocked:
        return ExitCode.PARTIAL
    return ExitCode.PENDING if exit_code and made.pending else ExitCode.OK


def run_loop(scope: Scope, options: RunOptions, *, as_json: bool, saved: SavedPlan | None = None) -> int:
    """Make a plan and apply it; with `saved`, only if the plan is exactly the saved one."""
    from reconciler.cli.proposals import pull_requests
    from reconciler.loop.plan_document import require_same
    from reconciler.loop.run import apply as apply_plan
    from reconciler.loop.run import make_plan
    from reconciler.loop.workspace import run_lock

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scope.layout.make_state()
    with run_lock(scope.layout.state, "reconcile" if saved is None else "reconcile apply"):
        requests = pull_requests(options.propose, os.environ)
        with (
            out.progress() as progress,
            loaded_workspace(scope, os.environ, progress) as workspace,
        ):
            made = make_plan(workspace, options)
            if saved is not None:
                require_same(saved, made)
            if made.refusals:
                _print_plan(made, PlanFormat.JSON if as_json else PlanFormat.TEXT)
                return _show_refusal(made)
            report = apply_plan(made, workspace, requests, only_this=saved is not None)
        _print_report(report, as_json=as_json)
    if report.interrupted:
        return show_interrupted(document=False)
    return ExitCode.PARTIAL if report.failed else ExitCode.OK


def _show_refusal(plan: Plan) -> ExitCode:
    """Print the first refusal on stderr; the plan on stdout has all of them."""
    first, *others = plan.refusals
    more = f" (and {len(others)} more)" if others else ""
    message = f"refused: {first.message}{more}"
    return out.show_failure(message, hint=first.override, code=ExitCode.REFUSED, document=False)


def _print_plan(plan: Plan, format: PlanFormat) -> None:  # noqa: A002 - the name of the option
    match format:
        case PlanFormat.JSON:
            from reconciler.loop.plan_document import plan_document

            out.result_json(plan_document(plan))
        case PlanFormat.MARKDOWN:
            from reconciler.render.markdown import plan_markdown

            out.result(plan_markdown(plan))
        case PlanFormat.MATRIX:
            from reconciler.cli.part_size import part_size
            from reconciler.render.workflow import matrix_document

            out.result(json.dumps(matrix_document(plan, part_size(os.environ))))  # one line, for an output
        case PlanFormat.TEXT:
            from reconciler.render.text import plan_text

            out.result(plan_text(plan, paint=out.paint()))


def _print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        from reconciler.loop.plan_document import report_document

        out.result_json(report_document(report))
        return
    from reconciler.render.findings import warning_lines
    from reconciler.render.text import report_text

    for note in report.plan.notes:
        out.say(f"note: {plain(note)}")
    for warning in warning_lines(report.plan.warnings):
        out.warn(warning)
    out.result(report_text(report, paint=out.paint()))
