"""One step from its inputs to its exit code: outputs, step summary, annotations and result file."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.cli import output as out
from reconciler.cli.action.comment import comment_on_failure, comment_on_plan
from reconciler.cli.action.inputs import (
    Event,
    Inputs,
    StepCommand,
    read_event,
    read_inputs,
    refuse_unaccepted,
)
from reconciler.cli.action.job import JobResult, changes_left, do_job, step_exit_code
from reconciler.errors import ExitCode, ReconcilerError, UsageError, Where
from reconciler.loop.changes import Blocked, Change, OutcomeState, ResolveCid
from reconciler.loop.plan_document import plan_document, report_document
from reconciler.render import workflow as pages
from reconciler.render.documents import error_document
from reconciler.render.text import plan_text, report_text
from reconciler.render.words import count
from reconciler.render.workflow import (
    Annotation,
    matrix_document,
    plan_annotations,
    report_annotations,
    write_outputs,
)


def run_step(environ: Mapping[str, str], annotations: list[Annotation]) -> ExitCode:
    """Run the step that the inputs in `environ` describe, and append its annotations to `annotations`.

    Outputs, step summary and the file of `plan-json` are written even when the step fails. Raises
    ReconcilerError.
    """
    event = read_event(environ)
    inputs: Inputs | None = None
    try:
        inputs = read_inputs(environ)
        refuse_unaccepted(event, inputs)
        done = do_job(inputs, environ)
    except ReconcilerError as error:
        _report_failure(error, inputs, event, environ, annotations)
        raise
    out.result(plan_text(done.plan) if done.report is None else report_text(done.report))
    code = step_exit_code(done, inputs.fail_on)
    annotations += _annotations(done, environ)
    if code is ExitCode.PENDING:  # no change is an error in itself, but the step fails
        left = count(len(changes_left(done)), "change")
        message = f"{left} left to make, and fail-on is {inputs.fail_on}"
        annotations.append(Annotation("error", "reconcile", message))
    notes = comment_on_plan(done, inputs, event, environ)
    annotations += notes
    file = save_document(result_document(done), environ)
    write_step_outputs(step_outputs(done, inputs.part_size) | {"plan-json": str(file)}, environ)
    if inputs.summary:
        append_to_runner_file("GITHUB_STEP_SUMMARY", _page(done, notes, inputs.command), environ)
    return code


def _report_failure(
    error: ReconcilerError,
    inputs: Inputs | None,
    event: Event,
    environ: Mapping[str, str],
    annotations: list[Annotation],
) -> None:
    message = f"{error.message}\n{error.hint}" if error.hint else error.message
    annotations.append(Annotation("error", "reconcile", message, _in_workspace(error.where, environ)))
    if inputs is not None:
        annotations += comment_on_failure(error, inputs, event, environ)
    file = save_document(_error_document(error), environ)
    write_step_outputs(EMPTY_OUTPUTS | {"plan-json": str(file)}, environ)
    if inputs is None or inputs.summary:
        page = pages.failure_page(str(error), error.hint or "")
        append_to_runner_file("GITHUB_STEP_SUMMARY", page, environ)


def _annotations(done: JobResult, environ: Mapping[str, str]) -> list[Annotation]:
    places = {version.ref: version.where for version in done.index.versions()}
    made = (
        plan_annotations(done.plan, places)
        if done.report is None
        else report_annotations(done.report, places)
    )
    return [replace(one, where=_in_workspace(one.where, environ)) for one in made]


def _page(done: JobResult, notes: list[Annotation], command: StepCommand) -> str:
    parts = [pages.note(one.message) for one in notes]
    if done.proposal is not None and done.proposal.number is not None:
        number = pages.link(f"#{done.proposal.number}", done.proposal.url or "")
        parts.append(f"Pull request {number}: {done.proposal.outcome.value}.")
    if done.report is None:
        return pages.plan_summary_page(done.plan, *parts, title=command.value)
    return pages.report_summary_page(done.report, *parts)


def _in_workspace(where: Where | None, environ: Mapping[str, str]) -> Where | None:
    """Return the place with its file relative to the workspace, as annotations need it."""
    workspace = environ.get("GITHUB_WORKSPACE")
    if where is None or not workspace:
        return where
    file, top = Path(where.file).resolve(), Path(workspace).resolve()
    return Where(os.path.relpath(file, top), where.line) if file.is_relative_to(top) else where


_TO_COME = (OutcomeState.WAITING, OutcomeState.REPORTED)

EMPTY_OUTPUTS = {
    "changed": "false",
    "applied": "0",
    "failed": "0",
    "pending": "0",
    "resolved": "{}",
    "matrix": '{"include": []}',
    "pull-request-number": "",
    "pull-request-url": "",
}
"""The outputs of a step that failed."""


def step_outputs(done: JobResult, part_size: int | None = None) -> dict[str, str]:
    """Return every output except plan-json: counts of changes, and JSON in `resolved` and `matrix`.

    `part_size` is that of the parts of large versions in the matrix, in bytes.
    """
    plan, report, proposal = done.plan, done.report, done.proposal
    if report is None:
        applied = 0
        failed = sum(isinstance(change, Blocked) for change in plan.changes)
        pending = len(plan.changes) - failed
    else:
        states = [outcome.state for outcome in report.outcomes]
        applied = states.count(OutcomeState.APPLIED)
        failed = sum(state.is_failure for state in states)
        pending = sum(map(states.count, _TO_COME))
    return EMPTY_OUTPUTS | {
        "changed": str(plan.pending if report is None else applied > 0).lower(),
        "applied": str(applied),
        "failed": str(failed),
        "pending": str(pending),
        "resolved": json.dumps({change.ref: str(change.root) for change in _resolved(done)}),
        "matrix": json.dumps(matrix_document(plan, part_size)),
        "pull-request-number": str(proposal.number) if proposal and proposal.number is not None else "",
        "pull-request-url": proposal.url if proposal and proposal.url else "",
    }


def result_document(done: JobResult) -> dict[str, Any]:
    """Return the report, or the plan when it was not applied."""
    return plan_document(done.plan) if done.report is None else report_document(done.report)


def _error_document(error: ReconcilerError) -> dict[str, Any]:
    where = str(error.where) if error.where else None
    return error_document(error.message, where=where, hint=error.hint, exit_code=int(error.exit_code))


def save_document(found: Mapping[str, Any], environ: Mapping[str, str]) -> Path:
    """Write a document to a new directory below the runner's temporary one, and return its path."""
    folder = Path(tempfile.mkdtemp(prefix="reconcile-", dir=environ.get("RUNNER_TEMP") or None))
    file = folder / f"{found['kind']}.json"
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return file


def write_step_outputs(values: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Write the outputs to the file of GITHUB_OUTPUT."""
    text = io.StringIO()
    write_outputs(values, text)
    append_to_runner_file("GITHUB_OUTPUT", text.getvalue(), environ)


def append_to_runner_file(variable: str, text: str, environ: Mapping[str, str]) -> None:
    """Append `text` to the file that `variable` names. Raises UsageError when it is not set."""
    if not environ.get(variable):
        raise UsageError(f"{variable} is not set", hint="the action runs as a step of a workflow")
    with Path(environ[variable]).open("a", encoding="utf-8") as stream:
        stream.write(text)


def _resolved(done: JobResult) -> list[Change]:
    if done.report is None:
        return [change for change in done.plan.changes if isinstance(change, ResolveCid)]
    return [
        outcome.change
        for outcome in done.report.outcomes
        if isinstance(outcome.change, ResolveCid) and outcome.state is OutcomeState.APPLIED
    ]
