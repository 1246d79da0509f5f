"""`reconcile`, `reconcile --dry-run`, `plan` and `apply`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from reconciler.cli import output as out
from reconciler.cli.output import show_failure
from reconciler.errors import ExitCode, ReconcilerError, UsageError
from reconciler.loop.changes import Plan, Report
from reconciler.loop.propose import PullRequests
from reconciler.loop.run import apply, make_plan
from reconciler.loop.saved import SavedPlan, plan_document, report_document, require_same
from reconciler.loop.settings import ProposeMode, RunOptions, Scope
from reconciler.loop.workspace import load, run_lock
from reconciler.render.text import plan_text, report_text
from reconciler.render.words import plain


def show_plan(
    scope: Scope,
    options: RunOptions,
    *,
    as_json: bool,
    output: Path | None = None,
    exit_code: bool = False,
    markdown: bool = False,
    matrix: bool = False,
) -> int:
    """Make a plan and show it. Takes no lock and changes nothing but caches."""
    if as_json + markdown + matrix > 1:
        raise UsageError(
            "--json, --markdown and --matrix each print the plan in a way of their own", hint="choose one"
        )
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError(f"cannot save to {str(output)!r}", hint="name a file in a directory that exists")
    scope.layout.make_state()
    with (
        out.progress() as progress,
        load(scope, os.environ, progress, allow_unpin_repair=options.allow_unpin_repair) as workspace,
    ):
        plan = make_plan(workspace, options)
    if output is not None:
        _save(output, plan)
    if matrix:
        from reconciler.render.workflow import matrix_document

        out.result(json.dumps(matrix_document(plan)))  # one line: an output of a step is one
    else:
        _print_plan(plan, as_json=as_json, markdown=markdown)
    if plan.refusals:
        return ExitCode.REFUSED
    if plan.blocked:
        return ExitCode.PARTIAL
    return ExitCode.PENDING if exit_code and plan.pending else ExitCode.OK


def run_loop(scope: Scope, options: RunOptions, *, as_json: bool, saved: SavedPlan | None = None) -> int:
    """Plan and carry it out; with `saved`, only if the plan is exactly that one."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scope.layout.make_state()
    with run_lock(scope.layout.state, "reconcile" if saved is None else "reconcile apply"):
        requests = pull_requests(options.propose, os.environ)
        with (
            out.progress() as progress,
            load(scope, os.environ, progress, allow_unpin_repair=options.allow_unpin_repair) as workspace,
        ):
            plan = make_plan(workspace, options)
            if saved is not None:
                require_same(saved, plan)
            if plan.refusals:
                _print_plan(plan, as_json=as_json)
                return _show_refusal(plan)
            report = apply(plan, workspace, requests)
        _print_report(report, as_json=as_json)
    if report.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.PARTIAL if report.failed else ExitCode.OK


def pull_requests(mode: ProposeMode, environ: Mapping[str, str]) -> PullRequests | None:
    """Where the pull requests of a run go and what they carry, or None when it opens none.

    The RECONCILE_PROPOSAL variables say what a team wants of them: docs/forges.md. Raises UsageError.
    """
    if mode is not ProposeMode.PULL_REQUEST:
        return None
    from reconciler.forges.open import open_forge
    from reconciler.render.markdown import templated

    draft = environ.get("RECONCILE_PROPOSAL_DRAFT", "")
    if draft not in ("", "true", "false"):
        raise UsageError(f"RECONCILE_PROPOSAL_DRAFT is {draft!r}", hint="it is true or false")
    return PullRequests(
        lambda: open_forge(environ),
        templated(environ.get("RECONCILE_PROPOSAL_TITLE", ""), environ.get("RECONCILE_PROPOSAL_BODY", "")),
        labels=_listed(environ.get("RECONCILE_PROPOSAL_LABELS", "")),
        reviewers=_listed(environ.get("RECONCILE_PROPOSAL_REVIEWERS", "")),
        draft=draft == "true",
    )


def _listed(text: str) -> tuple[str, ...]:
    """Names, one a line or with commas between."""
    names = (name.strip() for name in text.replace(",", "\n").splitlines())
    return tuple(dict.fromkeys(name for name in names if name))


def _save(path: Path, plan: Plan) -> None:
    text = json.dumps(plan_document(plan), indent=2, ensure_ascii=False) + "\n"
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staged.write_text(text, encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise ReconcilerError(f"cannot save the plan to {str(path)!r}: {error.strerror}") from None


def _show_refusal(plan: Plan) -> ExitCode:
    """The first refusal on stderr; the plan on stdout has them all."""
    first, *others = plan.refusals
    more = f" (and {len(others)} more)" if others else ""
    message = f"refused: {first.message}{more}"
    return show_failure(message, hint=first.override, code=ExitCode.REFUSED, document=False)


def _print_plan(plan: Plan, *, as_json: bool, markdown: bool = False) -> None:
    if as_json:
        out.result_json(plan_document(plan))
    elif markdown:
        from reconciler.render.markdown import plan_markdown

        out.result(plan_markdown(plan))
    else:
        out.result(plan_text(plan, paint=out.paint()))


def _print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        out.result_json(report_document(report))
    else:
        for note in report.plan.notes:
            out.say(f"note: {plain(note)}")
        out.result(report_text(report, paint=out.paint()))
