"""The inputs of a step, and the event that started its workflow.

action.yml passes the inputs in the environment as RECONCILE_INPUT_<NAME>; the runner describes the event in
GITHUB_EVENT_NAME and the file GITHUB_EVENT_PATH.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from reconciler.cli.part_size import part_size
from reconciler.errors import SafetyError, UsageError
from reconciler.index.locations import find_layout
from reconciler.loop.plan_document import SavedPlan
from reconciler.loop.settings import Drift, ProposeMode, RunOptions, Scope
from reconciler.targets.check import Check

E = TypeVar("E", bound=StrEnum)

PREFIX = "RECONCILE_INPUT_"
_BOOLEANS = {"true": True, "false": False}


class StepCommand(StrEnum):
    """The command of a step."""

    PLAN = "plan"
    APPLY = "apply"
    DRIFT = "drift"  #: only versions that were published before and are damaged or missing


class FailOn(StrEnum):
    """The least severe result that fails a step; each value includes those before it."""

    REFUSAL = "refusal"  #: a safety rule stops the run
    FAILURE = "failure"  #: a change failed, is blocked, or has an unknown state
    DRIFT = "drift"  #: a published version is damaged or missing
    CHANGE = "change"  #: any change is left to make


@dataclass(frozen=True, slots=True)
class Inputs:
    """The validated inputs.

    `plan` is the path of a saved plan that is to be carried out exactly, `sign` whether what is resolved is
    signed, `part_size` the bytes of a part of a
    large version in the matrix, None for undivided versions.
    """

    command: StepCommand
    scope: Scope
    options: RunOptions
    fail_on: FailOn
    comment: bool
    summary: bool
    plan: Path | None
    sign: bool
    part_size: int | None = None

    @property
    def acts(self) -> bool:
        """Whether the step changes targets or the repository."""
        return self.command is StepCommand.APPLY or (
            self.command is StepCommand.DRIFT and self.options.drift is Drift.REPAIR
        )


def read_inputs(environ: Mapping[str, str]) -> Inputs:
    """Read the inputs from `environ`; an empty one counts as not given.

    Paths are relative to the working directory, which is the repository. Raises UsageError, naming the input.
    """
    given = _InputReader(environ)
    command = given.choice("command", StepCommand, StepCommand.PLAN)
    drifting = command is StepCommand.DRIFT
    plan = given.path("plan")
    drift = given.choice("drift", Drift, Drift.REPORT if drifting else Drift.REPAIR)
    _require(
        not drifting or drift is not Drift.IGNORE,
        "drift",
        "is 'ignore', which leaves the command drift nothing to do",
    )
    _require(plan is None or command is StepCommand.APPLY, "plan", "requires the command apply")
    signs = given.boolean("sign", default=False)
    _require(not signs or command is StepCommand.APPLY, "sign", "requires the command apply")
    layout = find_layout(Path(), given.path("index"), given.path("targets"), given.path("source-root"))
    propose = given.choice("propose", ProposeMode, ProposeMode.PULL_REQUEST)
    options = RunOptions(
        check=given.choice("check", Check, Check.SAMPLE if drifting else Check.QUICK),
        drift=drift,
        propose=ProposeMode.NONE if drifting else propose,
        prune=given.boolean("prune", default=False) and not drifting,
        allow_removals=given.number("allow-removals"),
        base=given.text("base") or None,
    )
    return Inputs(
        command=command,
        scope=Scope(layout, given.lines("only"), given.lines("exclude")),
        options=options,
        fail_on=given.choice("fail-on", FailOn, FailOn.DRIFT if drifting else FailOn.FAILURE),
        comment=given.boolean("comment", default=True),
        summary=given.boolean("summary", default=True),
        plan=plan,
        sign=signs,
        part_size=part_size(environ),
    )


def refuse_other_options(inputs: Inputs, saved: SavedPlan) -> None:
    """Raise UsageError for an input that asks for something else than the `saved` plan was made with.

    An input that was not given has its default, so a default asks for nothing.
    """
    wanted, defaults = _options_by_input(inputs.options), _options_by_input(_DEFAULT_OPTIONS)
    wanted |= {"only": inputs.scope.only, "exclude": inputs.scope.exclude}
    defaults |= {"only": (), "exclude": ()}
    found = _options_by_input(saved.options) | {"only": saved.only, "exclude": saved.exclude}
    for name, value in wanted.items():
        if value not in (defaults[name], found[name]):
            raise UsageError(
                f"the input {name!r} is {_shown(value)}, and the saved plan was made with "
                f"{_shown(found[name])}",
                hint="remove the input, since a saved plan has its own options, or make the plan with it",
            )


_DEFAULT_OPTIONS = RunOptions(propose=ProposeMode.PULL_REQUEST)


def _options_by_input(options: RunOptions) -> dict[str, object]:
    """Return the options by the names of their inputs."""
    return {field.name.replace("_", "-"): getattr(options, field.name) for field in fields(options)}


def _shown(value: object) -> str:
    """Return the value of an option as an input spells it."""
    if isinstance(value, tuple):
        value = ", ".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return repr(str(value)) if value not in (None, "") else "none"


def input_name(name: str) -> str:
    """Return the name of the variable with the input `name`."""
    return PREFIX + name.upper().replace("-", "_")


class _InputReader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        return self._environ.get(input_name(name), "").strip()

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        return Path(text) if text else None

    def lines(self, name: str) -> tuple[str, ...]:
        """Return the values of an input with one value per line."""
        return tuple(line.strip() for line in self.text(name).splitlines() if line.strip())

    def boolean(self, name: str, *, default: bool) -> bool:
        text = self.text(name).lower()
        _require(not text or text in _BOOLEANS, name, f"is {text!r}, expected true or false")
        return _BOOLEANS.get(text, default)

    def choice(self, name: str, kind: type[E], default: E) -> E:
        text = self.text(name)
        allowed = [one.value for one in kind]
        _require(not text or text in allowed, name, f"is {text!r}, expected one of {', '.join(allowed)}")
        return kind(text) if text else default

    def number(self, name: str) -> int | None:
        text = self.text(name)
        _require(
            not text or (text.isascii() and text.isdigit() and len(text) < 10),
            name,
            f"is {text!r}, expected a number",
        )
        return int(text) if text else None


def _require(valid: bool, name: str, problem: str) -> None:
    if not valid:
        raise UsageError(f"the input {name!r} {problem}", hint="docs/github-actions.md lists the inputs")


_MAX_BYTES = 64 << 20  # GitHub sends no larger payload


@dataclass(frozen=True, slots=True)
class Event:
    """The event that started a workflow.

    `pull_request` is the number of its pull request, or None. `base` is the commit that the pull request is
    to be merged into, where the event contains it. `page` is the address of the full result: the checks of
    the pull request, or this run.
    """

    name: str
    ref: str
    pull_request: int | None
    base: str | None
    page: str
    follows_pull_request: bool = False  #: workflow_run after a workflow of a pull request

    @property
    def proposes(self) -> bool:
        """Whether the job runs on contents that are not merged yet."""
        of_pull = self.name.startswith("pull_request") or self.ref.startswith("refs/pull/")
        return of_pull or self.name == "merge_group"


def read_event(environ: Mapping[str, str]) -> Event:
    """Read the event of this job. Raises UsageError outside of GitHub Actions."""
    name = environ.get("GITHUB_EVENT_NAME", "")
    if environ.get("GITHUB_ACTIONS") != "true" or not name:
        raise UsageError("this step runs only in a job of GitHub Actions", hint="elsewhere, run `reconcile`")
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
    """Raise SafetyError for a command that must not run on the contents of a pull request."""
    if event.name == "pull_request_target" or event.follows_pull_request:
        raise SafetyError(
            f"no command runs on {event.name}, because it gives secrets to jobs on files of other authors",
            hint="run `plan` on pull_request: it needs no secret to write to the step summary",
        )
    if inputs.acts and event.proposes:
        what = "apply" if inputs.command is StepCommand.APPLY else "the repair of drift"
        raise SafetyError(
            f"{what} does not run on {event.name}: the contents of a pull request are not merged yet",
            hint="run `plan` on pull_request, and `apply` on push to the base branch",
        )


def _started_by(payload: Mapping[str, Any]) -> str:
    before = payload.get("workflow_run")
    return str(before.get("event")) if isinstance(before, dict) else ""


def _payload(path: str) -> dict[str, Any]:
    """Return the payload of the event; {} when it cannot be read, since every command can run without it."""
    try:
        file = Path(path)
        if not path or file.stat().st_size > _MAX_BYTES:
            return {}
        payload = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}
