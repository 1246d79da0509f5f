"""The outputs of a step, and the file with its plan or report."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.cli.action.job import Done
from reconciler.errors import ReconcilerError, UsageError
from reconciler.loop.changes import Blocked, Change, OutcomeState, ResolveCid
from reconciler.loop.saved import plan_document, report_document
from reconciler.render.workflow import matrix_document, write_outputs

_TO_COME = (OutcomeState.WAITING, OutcomeState.REPORTED)

NOTHING = {
    "changed": "false",
    "applied": "0",
    "failed": "0",
    "pending": "0",
    "resolved": "{}",
    "matrix": '{"include": []}',
    "pull-request-number": "",
    "pull-request-url": "",
}
"""The outputs of a step that came to nothing."""


def outputs(done: Done) -> dict[str, str]:
    """Every output but the file, by name. Numbers are counts of changes; `resolved` and `matrix` are JSON."""
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
    return NOTHING | {
        "changed": str(plan.pending if report is None else applied > 0).lower(),
        "applied": str(applied),
        "failed": str(failed),
        "pending": str(pending),
        "resolved": json.dumps({change.ref: str(change.root) for change in _resolved(done)}),
        "matrix": json.dumps(matrix_document(plan)),
        "pull-request-number": str(proposal.number) if proposal and proposal.number is not None else "",
        "pull-request-url": proposal.url if proposal and proposal.url else "",
    }


def document(done: Done) -> dict[str, Any]:
    """The report, or the plan where nothing was carried out."""
    return plan_document(done.plan) if done.report is None else report_document(done.report)


def failure_document(error: ReconcilerError) -> dict[str, Any]:
    """A failure in place of both, as `--json` prints it (schemas/error.schema.json)."""
    told = {
        "message": error.message,
        "where": str(error.where) if error.where else None,
        "hint": error.hint,
        "exit_code": int(error.exit_code),
    }
    return {"schema": 1, "kind": "error", "error": told}


def save(found: Mapping[str, Any], environ: Mapping[str, str]) -> Path:
    """Write a document into a new folder of the runner's temporary ones; the path of the file."""
    folder = Path(tempfile.mkdtemp(prefix="reconcile-", dir=environ.get("RUNNER_TEMP") or None))
    file = folder / f"{found['kind']}.json"
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return file


def write(values: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Hand the outputs to the runner."""
    text = io.StringIO()
    write_outputs(values, text)
    append("GITHUB_OUTPUT", text.getvalue(), environ)


def append(variable: str, text: str, environ: Mapping[str, str]) -> None:
    """Append to the file that `variable` names. Raises UsageError where there is none."""
    if not environ.get(variable):
        raise UsageError(f"{variable} is not set", hint="the action runs as a step of a workflow")
    with Path(environ[variable]).open("a", encoding="utf-8") as stream:
        stream.write(text)


def _resolved(done: Done) -> list[Change]:
    if done.report is None:
        return [change for change in done.plan.changes if isinstance(change, ResolveCid)]
    return [
        outcome.change
        for outcome in done.report.outcomes
        if isinstance(outcome.change, ResolveCid) and outcome.state is OutcomeState.APPLIED
    ]
