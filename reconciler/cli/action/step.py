"""One step from its inputs to its exit code, with everything it tells on the way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.cli import output as out
from reconciler.cli.action import results
from reconciler.cli.action.comment import comment_on_failure, comment_on_plan
from reconciler.cli.action.event import Event, read_event, refuse_unaccepted
from reconciler.cli.action.inputs import Inputs, StepCommand, read_inputs
from reconciler.cli.action.job import Done, changes_left, do_job, verdict
from reconciler.errors import ExitCode, ReconcilerError, Where
from reconciler.render import workflow as pages
from reconciler.render.text import plan_text, report_text
from reconciler.render.words import count
from reconciler.render.workflow import Annotation, plan_annotations, report_annotations


def run_step(environ: Mapping[str, str], told: list[Annotation]) -> ExitCode:
    """Do what the inputs in `environ` ask for. What is to be annotated is added to `told`, also on failure.

    Outputs, step summary and the file of `plan-json` are written whatever happens. Raises ReconcilerError.
    """
    event = read_event(environ)
    inputs: Inputs | None = None
    try:
        inputs = read_inputs(environ)
        refuse_unaccepted(event, inputs)
        done = do_job(inputs, environ)
    except ReconcilerError as error:
        _tell_failure(error, inputs, event, environ, told)
        raise
    out.result(plan_text(done.plan) if done.report is None else report_text(done.report))
    code = verdict(done, inputs.fail_on)
    told += _annotations(done, environ)
    if code is ExitCode.PENDING:  # nothing of it is an error by itself, and the step is red all the same
        told.append(
            Annotation(
                "error",
                "reconcile",
                f"{count(len(changes_left(done)), 'change')} left to make, and fail-on is {inputs.fail_on}",
            )
        )
    notes = comment_on_plan(done, inputs, event, environ)
    told += notes
    file = results.save(results.document(done), environ)
    results.write(results.outputs(done) | {"plan-json": str(file)}, environ)
    if inputs.summary:
        results.append("GITHUB_STEP_SUMMARY", _page(done, notes, inputs.command), environ)
    return code


def _tell_failure(
    error: ReconcilerError,
    inputs: Inputs | None,
    event: Event,
    environ: Mapping[str, str],
    told: list[Annotation],
) -> None:
    message = f"{error.message}\n{error.hint}" if error.hint else error.message
    told.append(Annotation("error", "reconcile", message, _in_workspace(error.where, environ)))
    if inputs is not None:
        told += comment_on_failure(error, inputs, event, environ)
    file = results.save(results.failure_document(error), environ)
    results.write(results.NOTHING | {"plan-json": str(file)}, environ)
    if inputs is None or inputs.summary:
        page = pages.failure_page(str(error), error.hint or "")
        results.append("GITHUB_STEP_SUMMARY", page, environ)


def _annotations(done: Done, environ: Mapping[str, str]) -> list[Annotation]:
    places = {version.ref: version.where for version in done.index.versions()}
    made = (
        plan_annotations(done.plan, places)
        if done.report is None
        else report_annotations(done.report, places)
    )
    return [replace(one, where=_in_workspace(one.where, environ)) for one in made]


def _page(done: Done, notes: list[Annotation], command: StepCommand) -> str:
    said = [pages.note(one.message) for one in notes]
    if done.proposal is not None and done.proposal.number is not None:
        number = pages.link(f"#{done.proposal.number}", done.proposal.url or "")
        said.append(f"Pull request {number}: {done.proposal.outcome.value}.")
    if done.report is None:
        return pages.plan_summary_page(done.plan, *said, title=command.value)
    return pages.report_summary_page(done.report, *said)


def _in_workspace(where: Where | None, environ: Mapping[str, str]) -> Where | None:
    """The place as annotations name files: from the top of the workspace."""
    workspace = environ.get("GITHUB_WORKSPACE")
    if where is None or not workspace:
        return where
    file, top = Path(where.file).resolve(), Path(workspace).resolve()
    return Where(os.path.relpath(file, top), where.line) if file.is_relative_to(top) else where
