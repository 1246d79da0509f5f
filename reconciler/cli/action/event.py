"""What started the workflow, as the runner tells it, and which commands may not run for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.cli.action.inputs import Inputs, StepCommand
from reconciler.errors import SafetyError, UsageError

_MAX_BYTES = 64 << 20  # GitHub sends no larger payload


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `pull_request` is its number, None when the event is about none.

    `base` is the commit that a pull request is to be merged into, where the event says it. `page` is where
    people find the whole result: the checks of the pull request, or this run.
    """

    name: str
    ref: str
    pull_request: int | None
    base: str | None
    page: str
    follows_pull_request: bool = False  #: workflow_run after a workflow of a pull request

    @property
    def proposes(self) -> bool:
        """Whether it runs for contents that nobody has accepted yet."""
        of_pull = self.name.startswith("pull_request") or self.ref.startswith("refs/pull/")
        return of_pull or self.name == "merge_group"


def read_event(environ: Mapping[str, str]) -> Event:
    """The event of this job. Raises UsageError outside of GitHub Actions."""
    name = environ.get("GITHUB_EVENT_NAME", "")
    if environ.get("GITHUB_ACTIONS") != "true" or not name:
        raise UsageError("this is no job of GitHub Actions", hint="use the command `reconcile` elsewhere")
    payload = _payload(environ.get("GITHUB_EVENT_PATH", ""))
    pull = payload.get("pull_request")
    pull = pull if isinstance(pull, dict) else {}
    number = pull.get("number") if name.startswith("pull_request") else None
    number = number if isinstance(number, int) and not isinstance(number, bool) else None
    base = pull.get("base")
    base = base.get("sha") if isinstance(base, dict) else None
    pages = f"{environ.get('GITHUB_SERVER_URL', '')}/{environ.get('GITHUB_REPOSITORY', '')}"
    run = environ.get("GITHUB_RUN_ID", "")
    return Event(
        name=name,
        ref=environ.get("GITHUB_REF", ""),
        pull_request=number,
        base=base if isinstance(base, str) else None,
        page=f"{pages}/pull/{number}/checks" if number is not None else f"{pages}/actions/runs/{run}",
        follows_pull_request=name == "workflow_run" and _started_by(payload).startswith("pull_request"),
    )


def refuse_unaccepted(event: Event, inputs: Inputs) -> None:
    """Raise SafetyError for a command that must not run on what a pull request brings."""
    if event.name == "pull_request_target" or event.follows_pull_request:
        raise SafetyError(
            f"{event.name} gives secrets to a job about somebody else's files, so nothing runs for it",
            hint="plan on the event pull_request: a plan needs no secret, and falls back to the step summary",
        )
    if inputs.acts and event.proposes:
        what = "apply" if inputs.command is StepCommand.APPLY else "the repair of drift"
        raise SafetyError(
            f"{what} does not run on {event.name}: what a pull request brings is not accepted yet",
            hint="plan on pull_request, and apply on push to the branch it is merged into",
        )


def _started_by(payload: Mapping[str, Any]) -> str:
    before = payload.get("workflow_run")
    return str(before.get("event")) if isinstance(before, dict) else ""


def _payload(path: str) -> dict[str, Any]:
    """The event's JSON; an empty one when there is none, since no command depends on it alone."""
    try:
        file = Path(path)
        if not path or file.stat().st_size > _MAX_BYTES:
            return {}
        payload = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}
