"""What a GitHub Actions runner reads: annotations, outputs and the step summary.

Sources: GitHub's documentation of workflow commands and environment files. A value never leaves its place:
messages and properties are escaped, and multi-line outputs end at a delimiter that nobody could have guessed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from reconciler.errors import Where
from reconciler.loop.changes import Blocked, Change, Outcome, Plan, Refusal, Report
from reconciler.render.text import action, plan_summary

MAX_ANNOTATIONS = 10  #: a step shows ten of each kind and drops the rest without a word
SUMMARY_LIMIT = 1_000_000  #: bytes; above 1 MiB the runner drops the whole summary


@dataclass(frozen=True, slots=True)
class Annotation:
    """A note on a line of a file, or on the run when `where` is None. `level` is error, warning or notice."""

    level: str
    title: str
    message: str
    where: Where | None = None

    def command(self) -> str:
        """The workflow command for it, one line."""
        properties = {"title": self.title}
        if self.where is not None:
            properties = {"file": self.where.file, **properties}
            if self.where.line is not None:
                properties["line"] = str(self.where.line)
        told = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
        return f"::{self.level} {told}::{_message(self.message)}"


def plan_annotations(plan: Plan, places: Mapping[str, Where]) -> list[Annotation]:
    """The ten most important things a plan says: refusals, then what is blocked, then what is drift.

    `places` has the line of each version in the index, by `model@version`.
    """
    found = [_refused(refusal) for refusal in plan.refusals]
    blocked = [change for change in plan.changes if isinstance(change, Blocked)]
    found += [_on(change, "error", _blocked_text(change), places) for change in blocked if not change.unknown]
    found += [_on(change, "warning", _blocked_text(change), places) for change in blocked if change.unknown]
    drift = [change for change in plan.changes if change.drift and not isinstance(change, Blocked)]
    found += [_on(change, "notice", f"drift: {action(change)}", places) for change in drift]
    return _first(found, plan_summary(plan))


def report_annotations(report: Report, places: Mapping[str, Where]) -> list[Annotation]:
    """The ten most important things a report says: what failed, then what could not be done."""
    ranks = {"failed": "error", "blocked": "error", "skipped": "warning", "unknown": "warning"}
    bad = sorted(
        (outcome for outcome in report.outcomes if outcome.state in ranks),
        key=lambda outcome: list(ranks).index(outcome.state),
    )
    found = [_on(o.change, ranks[o.state], _outcome_text(o), places) for o in bad]
    return _first(found, "see the step summary for the rest")


def write_annotations(annotations: Iterable[Annotation], stream: TextIO) -> None:
    """Print them where the runner reads commands: its standard output."""
    for annotation in annotations:
        stream.write(annotation.command() + "\n")


def write_outputs(outputs: Mapping[str, str], stream: TextIO) -> None:
    """Append `outputs` to the file of GITHUB_OUTPUT, values on as many lines as they like."""
    for name, value in outputs.items():
        delimiter = f"end-{secrets.token_hex(16)}"
        stream.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def _first(found: Sequence[Annotation], summary: str) -> list[Annotation]:
    if len(found) <= MAX_ANNOTATIONS:
        return list(found)
    rest = len(found) - MAX_ANNOTATIONS + 1
    return [*found[: MAX_ANNOTATIONS - 1], Annotation("notice", "reconcile", f"{rest} more; {summary}")]


def _refused(refusal: Refusal) -> Annotation:
    text = f"{refusal.message}\n{refusal.override}" if refusal.override else refusal.message
    return Annotation("error", f"refused: {refusal.rule}", text)


def _on(change: Change, level: str, text: str, places: Mapping[str, Where]) -> Annotation:
    target = f" on {change.target}" if change.target else ""
    return Annotation(level, f"{change.ref}{target}", text, places.get(change.ref))


def _blocked_text(change: Blocked) -> str:
    return f"{change.reason}\n{change.hint}" if change.hint else change.reason


def _outcome_text(outcome: Outcome) -> str:
    told = f"{action(outcome.change)}: {outcome.state}"
    return "\n".join(part for part in (f"{told}: {outcome.detail}", outcome.hint) if part)


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
