"""The plan as one comment on the pull request, updated in place; where the token may not, a note says so."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping

from reconciler.cli.action.concerns import concerns
from reconciler.cli.action.event import Event
from reconciler.cli.action.inputs import Inputs, StepCommand
from reconciler.cli.action.job import Done
from reconciler.errors import PeerError, ReconcilerError, UsageError
from reconciler.net.errors import AccessDeniedError
from reconciler.render.progress import Lines
from reconciler.render.workflow import Annotation, failure_comment, nothing_comment, plan_comment

_TITLE = "no comment"


def comment_on_plan(done: Done, inputs: Inputs, event: Event, environ: Mapping[str, str]) -> list[Annotation]:
    """Make the comment say `done`; none is made for a plan that does not concern the pull request.

    Never raises for a forge that refuses or is down: the annotations say what stood in the way.
    """
    says = bool(done.plan.changes or done.plan.refusals)
    if says and concerns(event, inputs.scope.layout, done.index):
        return _put(plan_comment(done.plan, event.page), inputs, event, environ, create=True)
    return _put(nothing_comment(), inputs, event, environ, create=False)


def comment_on_failure(
    error: ReconcilerError, inputs: Inputs, event: Event, environ: Mapping[str, str]
) -> list[Annotation]:
    """Make a comment that is there already say that there is no plan any more, and why."""
    body = failure_comment(str(error), error.hint or "", event.page)
    return _put(body, inputs, event, environ, create=False)


def _put(
    body: str, inputs: Inputs, event: Event, environ: Mapping[str, str], *, create: bool
) -> list[Annotation]:
    from reconciler.forges.open import open_forge_for_comments

    if not inputs.comment or event.pull_request is None or inputs.command is not StepCommand.PLAN:
        return []
    try:
        forge = open_forge_for_comments(environ, Lines(sys.stderr))
        try:
            forge.upsert_comment(event.pull_request, _marker(inputs), body, create=create)
        finally:
            forge.close()
    except (PeerError, UsageError) as error:
        if not create and isinstance(error, (AccessDeniedError, UsageError)):
            return []  # a token that may not comment has left no comment to change
        advice = error.hint or "a token of a pull request from a fork may only read"
        return [Annotation("notice", _TITLE, f"the plan is in the step summary only: {error}\n{advice}")]
    return []


def _marker(inputs: Inputs) -> str:
    """One comment for each selection of an index, so that two steps with two of them do not fight."""
    scope, layout = inputs.scope, inputs.scope.layout
    parts = (layout.index_file.as_posix(), layout.targets_file.as_posix(), scope.only, scope.exclude)
    return f"plan/{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
