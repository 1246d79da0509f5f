"""The inputs of the action, as action.yml puts them into the environment: RECONCILE_INPUT_<NAME>."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from reconciler.errors import UsageError
from reconciler.index.layout import find_layout
from reconciler.loop.settings import Drift, ProposeMode, RunOptions, Scope
from reconciler.targets.check import Check

E = TypeVar("E", bound=StrEnum)

PREFIX = "RECONCILE_INPUT_"
_BOOLEANS = {"true": True, "false": False}


class StepCommand(StrEnum):
    """What a step does."""

    PLAN = "plan"
    APPLY = "apply"
    DRIFT = "drift"  #: only what was published before and is not whole any more


class FailOn(StrEnum):
    """From where on a step fails; each includes those before it. Errors always fail it."""

    REFUSAL = "refusal"  #: a safety rule stops the run
    FAILURE = "failure"  #: something failed, is blocked, or could not be looked at
    DRIFT = "drift"  #: a published version is not whole
    CHANGE = "change"  #: anything is left to do


@dataclass(frozen=True, slots=True)
class Inputs:
    """Every input, checked. `plan` is a saved plan to carry out exactly."""

    command: StepCommand
    scope: Scope
    options: RunOptions
    fail_on: FailOn
    comment: bool
    summary: bool
    plan: Path | None

    @property
    def acts(self) -> bool:
        """Whether the step changes anything but what a run only reads."""
        return self.command is StepCommand.APPLY or (
            self.command is StepCommand.DRIFT and self.options.drift is Drift.REPAIR
        )


def read_inputs(environ: Mapping[str, str]) -> Inputs:
    """The inputs that `environ` holds; an empty one counts as not given.

    Paths are relative to the working directory, which is the repository. Raises UsageError, naming the input.
    """
    given = _Given(environ)
    command = given.choice("command", StepCommand, StepCommand.PLAN)
    drifting = command is StepCommand.DRIFT
    plan = given.path("plan")
    drift = given.choice("drift", Drift, Drift.REPORT if drifting else Drift.REPAIR)
    _require(not drifting or drift is not Drift.IGNORE, "drift", "is 'ignore', and so is the command drift")
    _require(plan is None or command is StepCommand.APPLY, "plan", "is a saved plan for the command apply")
    layout = find_layout(Path(), given.path("index"), given.path("targets"), given.path("source-root"))
    propose = given.choice("propose", ProposeMode, ProposeMode.PULL_REQUEST)
    options = RunOptions(
        check=given.choice("check", Check, Check.SAMPLE if drifting else Check.QUICK),
        drift=drift,
        propose=ProposeMode.NONE if drifting else propose,
        prune=given.boolean("prune", default=False) and not drifting,
        allow_removals=given.number("allow-removals"),
        allow_unpin_repair=given.boolean("allow-unpin-repair", default=False),
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
    )


def input_name(name: str) -> str:
    """The variable that carries the input `name`."""
    return PREFIX + name.upper().replace("-", "_")


class _Given:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        return self._environ.get(input_name(name), "").strip()

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        return Path(text) if text else None

    def lines(self, name: str) -> tuple[str, ...]:
        """One value a line."""
        return tuple(line.strip() for line in self.text(name).splitlines() if line.strip())

    def boolean(self, name: str, *, default: bool) -> bool:
        text = self.text(name).lower()
        _require(not text or text in _BOOLEANS, name, f"is {text!r}, and should be true or false")
        return _BOOLEANS.get(text, default)

    def choice(self, name: str, kind: type[E], default: E) -> E:
        text = self.text(name)
        allowed = [one.value for one in kind]
        _require(not text or text in allowed, name, f"is {text!r}, and should be one of {', '.join(allowed)}")
        return kind(text) if text else default

    def number(self, name: str) -> int | None:
        text = self.text(name)
        _require(
            not text or (text.isascii() and text.isdigit() and len(text) < 10),
            name,
            f"is {text!r}, and should be a number",
        )
        return int(text) if text else None


def _require(holds: bool, name: str, problem: str) -> None:
    if not holds:
        raise UsageError(f"the input {name!r} {problem}", hint="docs/github-actions.md lists the inputs")
