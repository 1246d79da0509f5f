"""Plans and reports in a workflow of GitHub Actions: comments, step summaries, annotations, outputs,
matrices.

A value never leaves its place: messages and properties of annotations are escaped, and multi-line outputs end
at a delimiter that cannot be guessed. Sources: GitHub's documentation of workflow commands, environment files
and `jobs.<job_id>.strategy.matrix`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from reconciler.errors import Where
from reconciler.index.part import SEPARATOR, Part
from reconciler.loop.changes import (
    Blocked,
    Change,
    Deliver,
    Outcome,
    OutcomeState,
    Plan,
    Refusal,
    Report,
    StreamVersion,
)
from reconciler.render.markdown import MAX_CHARACTERS, escape, plan_markdown, report_markdown
from reconciler.render.text import action, plan_summary

MAX_JOBS = 256  #: GitHub's limit on the jobs of one matrix


@dataclass
class _Work:
    targets: list[str] = field(default_factory=list)
    size: int = 0


def matrix_document(plan: Plan, part_size: int | None = None) -> dict[str, Any]:
    """Return the strategy matrix of the versions that have bytes to send, in the plan's order.

    Each entry has `name` (for people), `only` (for --only, one version a line), `targets` (names) and `bytes`
    (the total size of the CARs, or of the files in a remote source; 0 when unknown). Beyond 256 versions an
    entry contains several. With `part_size`, there is an entry for each part of the versions with a remote
    source that have more bytes, where a target keeps parts, and no other entry. A workflow whose matrix is
    empty fails, so its job needs the condition in docs/github-actions.md.
    """
    if part_size is not None:
        return {"include": _part_entries(plan, part_size)}
    work: dict[str, _Work] = {}
    for change in plan.changes:
        if isinstance(change, StreamVersion):
            work[change.ref] = _Work(list(change.targets), change.size)
        if isinstance(change, Deliver):
            one = work.setdefault(change.ref, _Work())
            one.targets.append(change.target)
            one.size += getattr(change, "size", None) or 0
    refs = list(work)
    share = -(-len(refs) // MAX_JOBS) or 1
    groups = [refs[start : start + share] for start in range(0, len(refs), share)]
    return {"include": [_entry(group, [work[ref] for ref in group]) for group in groups]}


def _part_entries(plan: Plan, part_size: int) -> list[dict[str, Any]]:
    """Return the entries of parts, which become larger when there would be too many of them."""
    large = [change for change in plan.changes if isinstance(change, StreamVersion) and change.divisible]
    while True:
        counts = [(change, -(-change.size // part_size)) for change in large]
        if sum(count for _, count in counts if count > 1) <= MAX_JOBS:
            break
        part_size *= 2
    return [
        {
            "name": f"{change.ref} (part {part})",
            "only": f"{change.ref}{SEPARATOR}{part}",
            "targets": sorted(change.targets),
            "bytes": -(-change.size // count),
        }
        for change, count in counts
        if count > 1
        for part in (Part(number, count) for number in range(1, count + 1))
    ]


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
_CUT = "\n\n…truncated at the size limit of a step summary.\n"


def plan_comment(plan: Plan, page: str) -> str:
    """Render a plan as a comment; `page` is the address of the full plan. Equal plans give equal text."""
    more = f"; the step summary has all of them, see {link('the checks', page)}"
    footer = "Planned from what the targets hold now. Nothing was changed: merging applies the plan."
    text = plan_markdown(plan, limit=MAX_CHARACTERS - 1_000, fold=True, more=more)
    return f"{_TITLE}\n\n{text}\n<sub>{footer}</sub>\n"


def nothing_comment() -> str:
    """Render the comment of a pull request that no longer has a plan."""
    return f"{_TITLE}\n\nNothing left to do for this pull request.\n"


def failure_comment(message: str, hint: str, page: str) -> str:
    """Render a comment that reports why there is no plan, with a link to the log."""
    error = f"**No plan:** {escape(message[:2_000])}"
    advice = f" — {escape(hint[:2_000])}" if hint else ""
    return f"{_TITLE}\n\n{error}{advice} ({link('log', page)})\n"


def plan_summary_page(plan: Plan, *notes: str, title: str = "plan") -> str:
    """Render a plan as a step summary, followed by `notes` (Markdown)."""
    return _fitting(lambda limit: _page(title, plan_markdown(plan, limit=limit), notes))


def report_summary_page(report: Report, *notes: str) -> str:
    """Render a report as a step summary, followed by `notes` (Markdown)."""
    return _fitting(lambda limit: _page("result", report_markdown(report, limit=limit), notes))


def failure_page(message: str, hint: str) -> str:
    """Render a failure as a step summary."""
    lines = [escape(line) for line in message.splitlines()[:200]]
    notes = [escape(hint)] if hint else []
    return _fitting(lambda limit: _page("error", "\n\n".join(lines)[:limit], notes))


def note(text: str) -> str:
    """Render a note below a step summary."""
    return "> " + escape(" — ".join(text.splitlines()))


def link(text: str, address: str) -> str:
    """Return a Markdown link, or only `text` when the address could break out of the link."""
    return f"[{text}]({address})" if _ADDRESS.fullmatch(address) else text


def _page(what: str, text: str, notes: Sequence[str]) -> str:
    return "\n\n".join([f"## Model weights: {what}", text.rstrip("\n"), *notes]) + "\n"


def _fitting(make: Callable[[int], str]) -> str:
    """Return the longest text that fits into a step summary; a character takes up to four bytes."""
    for limit in (SUMMARY_LIMIT, SUMMARY_LIMIT // 2, SUMMARY_LIMIT // 4):
        text = make(limit - 10_000)
        if len(text.encode()) <= SUMMARY_LIMIT:
            return text
    return text.encode()[: SUMMARY_LIMIT - 100].decode(errors="ignore") + _CUT


MAX_ANNOTATIONS = 10  #: GitHub shows ten of each level per step and silently drops the rest
SUMMARY_LIMIT = 1_000_000  #: bytes; above 1 MiB the runner drops the whole summary


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation of a line of a file, or of the run when `where` is None. `level` is error, warning or
    notice.
    """

    level: str
    title: str
    message: str
    where: Where | None = None

    def command(self) -> str:
        """Return the workflow command for the annotation, on one line."""
        properties = {"title": self.title}
        if self.where is not None:
            properties = {"file": self.where.file, **properties}
            if self.where.line is not None:
                properties["line"] = str(self.where.line)
        written = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
        return f"::{self.level} {written}::{_message(self.message)}"


def plan_annotations(plan: Plan, places: Mapping[str, Where]) -> list[Annotation]:
    """Return at most ten annotations for a plan: refusals, then blocked changes, drift, and upstream.

    `places` maps `model@version` to its line in the index.
    """
    found = [_refused(refusal) for refusal in plan.refusals]
    blocked = [change for change in plan.changes if isinstance(change, Blocked)]
    found += [_on(change, "error", _blocked_text(change), places) for change in blocked if not change.unknown]
    found += [_on(change, "warning", _blocked_text(change), places) for change in blocked if change.unknown]
    drift = [change for change in plan.changes if change.drift and not isinstance(change, Blocked)]
    found += [_on(change, "notice", f"drift: {action(change)}", places) for change in drift]
    found += _upstream_annotations(plan, places)
    return _first(found, plan_summary(plan))


def _upstream_annotations(plan: Plan, places: Mapping[str, Where]) -> Iterator[Annotation]:
    for found in plan.upstream:
        level = "notice" if found.code.is_new_version else "warning"
        yield Annotation(level, found.ref, f"{found.source} {found.message}", places.get(found.ref))


_LEVELS = {  # the annotation level of each failure, most important first
    OutcomeState.FAILED: "error",
    OutcomeState.BLOCKED: "error",
    OutcomeState.SKIPPED: "warning",
    OutcomeState.UNKNOWN: "warning",
}


def report_annotations(report: Report, places: Mapping[str, Where]) -> list[Annotation]:
    """Return at most ten annotations for a report: failures first, then what could not be done."""
    bad = sorted(
        (outcome for outcome in report.outcomes if outcome.state in _LEVELS),
        key=lambda outcome: list(_LEVELS).index(outcome.state),
    )
    found = [_on(o.change, _LEVELS[o.state], _outcome_text(o), places) for o in bad]
    found += _upstream_annotations(report.plan, places)
    return _first(found, "see the step summary for the rest")


def write_annotations(annotations: Iterable[Annotation], stream: TextIO) -> None:
    """Write annotations to the stream in which the runner looks for commands: its standard output."""
    for annotation in annotations:
        stream.write(annotation.command() + "\n")


def write_outputs(outputs: Mapping[str, str], stream: TextIO) -> None:
    """Write `outputs` in the format of GITHUB_OUTPUT; values may have several lines."""
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
    what = f"{action(outcome.change)}: {outcome.state}"
    return "\n".join(part for part in (f"{what}: {outcome.detail}", outcome.hint) if part)


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
