"""What needs publishing, as the strategy matrix of a workflow: `strategy: {matrix: ${{ fromJSON(…) }}}`.

Source: GitHub's documentation of `jobs.<job_id>.strategy.matrix`; a matrix makes at most 256 jobs, and one
without entries fails its workflow, so a job that uses it needs the condition in docs/github-actions.md.

What a job of a workflow says on its pull request and in its step summary, as Markdown.

What a GitHub Actions runner reads: annotations, outputs and the step summary.

Sources: GitHub's documentation of workflow commands and environment files. A value never leaves its place:
messages and properties are escaped, and multi-line outputs end at a delimiter that nobody could have guessed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from reconciler.errors import Where
from reconciler.loop.changes import Blocked, Change, Deliver, Outcome, OutcomeState, Plan, Refusal, Report
from reconciler.render.markdown import MAX_CHARACTERS, escape, plan_markdown, report_markdown
from reconciler.render.text import action, plan_summary

MAX_JOBS = 256


@dataclass
class _Work:
    targets: list[str] = field(default_factory=list)
    size: int = 0


def matrix_document(plan: Plan) -> dict[str, Any]:
    """One entry a version to which bytes must be sent, in the plan's order.

    Each has `name` (for people), `only` (for --only, one line a version), `targets` (names) and `bytes`
    (of the CARs together; 0 when not known). Beyond 256 versions an entry holds several.
    """
    work: dict[str, _Work] = {}
    for change in plan.changes:
        if isinstance(change, Deliver):
            one = work.setdefault(change.ref, _Work())
            one.targets.append(change.target)
            one.size += getattr(change, "size", None) or 0
    refs = list(work)
    share = -(-len(refs) // MAX_JOBS) or 1
    groups = [refs[start : start + share] for start in range(0, len(refs), share)]
    return {"include": [_entry(group, [work[ref] for ref in group]) for group in groups]}


def _entry(refs: Sequence[str], parts: Sequence[_Work]) -> dict[str, Any]:
    more = f" and {len(refs) - 1} more" if len(refs) > 1 else ""
    return {
        "name": refs[0] + more,
        "only": "\n".join(refs),
        "targets": sorted({target for part in parts for target in part.targets}),
        "bytes": sum(part.size for part in parts),
    }


_TITLE = "### Model weights"
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]+")
_CUT = "\n\n…cut: a step summary may hold no more.\n"


def plan_comment(plan: Plan, page: str) -> str:
    """The plan as a comment; `page` is where the whole of it is. The same plan gives the same text."""
    more = f"; all of them are in the step summary, by way of {link('the checks', page)}"
    footer = "Planned from what the targets hold now; nothing was changed. The merge is what carries it out."
    text = plan_markdown(plan, limit=MAX_CHARACTERS - 1_000, fold=True, more=more)
    return f"{_TITLE}\n\n{text}\n<sub>{footer}</sub>\n"


def nothing_comment() -> str:
    """What a comment becomes when its plan concerns the pull request no more."""
    return f"{_TITLE}\n\nNothing to do for this pull request any more.\n"


def failure_comment(message: str, hint: str, page: str) -> str:
    """What a comment becomes when there is no plan: the error, and where the log is."""
    told = f"**No plan:** {escape(message[:2_000])}"
    advice = f" — {escape(hint[:2_000])}" if hint else ""
    return f"{_TITLE}\n\n{told}{advice} ({link('log', page)})\n"


def plan_summary_page(plan: Plan, *notes: str, title: str = "plan") -> str:
    """The plan as a step summary, with `notes` (Markdown) below it."""
    return _fitting(lambda limit: _page(title, plan_markdown(plan, limit=limit), notes))


def report_summary_page(report: Report, *notes: str) -> str:
    """The report as a step summary, with `notes` (Markdown) below it."""
    return _fitting(lambda limit: _page("result", report_markdown(report, limit=limit), notes))


def failure_page(message: str, hint: str) -> str:
    """A failure as a step summary."""
    lines = [escape(line) for line in message.splitlines()[:200]]
    notes = [escape(hint)] if hint else []
    return _fitting(lambda limit: _page("error", "\n\n".join(lines)[:limit], notes))


def note(text: str) -> str:
    """Something worth knowing, below a page."""
    return "> " + escape(" — ".join(text.splitlines()))


def link(text: str, address: str) -> str:
    """A Markdown link, or `text` alone for an address that could leave its place."""
    return f"[{text}]({address})" if _ADDRESS.fullmatch(address) else text


def _page(what: str, text: str, notes: Sequence[str]) -> str:
    return "\n\n".join([f"## Model weights: {what}", text.rstrip("\n"), *notes]) + "\n"


def _fitting(make: Callable[[int], str]) -> str:
    """The longest text whose bytes a step summary may hold; a character is up to four of them."""
    for limit in (SUMMARY_LIMIT, SUMMARY_LIMIT // 2, SUMMARY_LIMIT // 4):
        text = make(limit - 10_000)
        if len(text.encode()) <= SUMMARY_LIMIT:
            return text
    return text.encode()[: SUMMARY_LIMIT - 100].decode(errors="ignore") + _CUT


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


_LEVELS = {  # the annotation level of each failure, most important first
    OutcomeState.FAILED: "error",
    OutcomeState.BLOCKED: "error",
    OutcomeState.SKIPPED: "warning",
    OutcomeState.UNKNOWN: "warning",
}


def report_annotations(report: Report, places: Mapping[str, Where]) -> list[Annotation]:
    """The ten most important things a report says: what failed, then what could not be done."""
    bad = sorted(
        (outcome for outcome in report.outcomes if outcome.state in _LEVELS),
        key=lambda outcome: list(_LEVELS).index(outcome.state),
    )
    found = [_on(o.change, _LEVELS[o.state], _outcome_text(o), places) for o in bad]
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
