"""Plan, report and status as text for a terminal or a log: grouped by model, one mark a line.

`+` stream, publish or pin, `~` repair, relabel or write back, `-` unpin, `…` waiting, `!` blocked or failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from reconciler.loop.changes import (
    DIRECTORY,
    SOURCE,
    Blocked,
    Change,
    Deliver,
    Outcome,
    OutcomeState,
    PinRoot,
    Plan,
    Publish,
    Relabel,
    Repair,
    Report,
    ResolveCid,
    StreamVersion,
    Unpin,
    Wait,
    WriteRecord,
)
from reconciler.loop.log_leaves import WriteLeaf
from reconciler.loop.mismatch import MAX_SHOWN
from reconciler.loop.parts import StreamPart
from reconciler.loop.upstream_finding import UpstreamFinding
from reconciler.render.costs import account_lines, cost_text, price_text
from reconciler.render.findings import warning_lines
from reconciler.render.words import count, plain, size

Paint = Callable[[str, str], str]
"""`paint(text, style)` returns `text` in a style of `STYLES`, or unchanged where colours are off."""

STYLES = {"+": "32", "~": "33", "-": "31", "!": "1;31", "…": "36", "ok": "32", "dim": "2", "bold": "1"}

MAX_LISTED = 20  #: differences of one directory

_SUMMARY = (  # the order of the states in a summary
    OutcomeState.APPLIED,
    OutcomeState.WAITING,
    OutcomeState.REPORTED,
    OutcomeState.FAILED,
    OutcomeState.SKIPPED,
    OutcomeState.BLOCKED,
    OutcomeState.UNKNOWN,
)


def colour(text: str, style: str) -> str:
    """Return `text` in the ANSI colour of `style`."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def no_colour(text: str, style: str) -> str:  # noqa: ARG001 - one signature with `colour`
    """Return `text` unchanged."""
    return text


def plan_text(plan: Plan, *, paint: Paint = no_colour) -> str:
    """Render a plan, with refusals last."""
    lines = list(_grouped(plan.changes, paint, _line))
    lines += account_lines(plan.accounts)
    lines += upstream_lines(plan.upstream)
    lines += [f"note: {plain(note)}" for note in plan.notes]
    lines += [f"warning: {plain(warning)}" for warning in warning_lines(plan.warnings)]
    if lines:
        lines.append("")
    lines.append(paint(f"Plan: {plan_summary(plan)}.", "bold"))
    for refusal in plan.refusals:
        lines.append(f"{paint('refused', '!')}: {plain(refusal.message)}")
        if refusal.override:
            lines.append(f"  hint: {plain(refusal.override)}")
    return "\n".join(lines) + "\n"


def report_text(report: Report, *, paint: Paint = no_colour) -> str:
    """Render the outcome of each change. A reason that several failures share is printed once."""
    by_change = {id(outcome.change): outcome for outcome in report.outcomes}
    printed: set[tuple[str, str]] = set()

    def line(change: Change) -> Line:
        outcome = by_change[id(change)]
        reason = (outcome.detail, outcome.hint)
        if outcome.state is not OutcomeState.FAILED or reason not in printed:
            printed.add(reason)
            return _outcome_line(outcome)
        return _outcome_line(replace(outcome, detail="for the same reason", hint=""))

    lines = list(_grouped([outcome.change for outcome in report.outcomes], paint, line))
    lines += upstream_lines(report.plan.upstream)
    if lines:
        lines.append("")
    lines.append(paint(f"Result: {report_summary(report)}.", "bold"))
    return "\n".join(lines) + "\n"


def plan_summary(plan: Plan) -> str:
    """Summarize a plan in one line: what would be done, and how much is in sync."""
    changes = plan.changes
    published = [change for change in changes if isinstance(change, Publish)]
    total = sum(change.size or 0 for change in published)
    amount = f" ({size(total)})" if total else ""
    streamed = [change for change in changes if isinstance(change, StreamVersion)]
    listed = f" ({size(sum(change.size for change in streamed))})"
    parts = [
        count(len(streamed), "version") + f" to stream{listed}" if streamed else "",
        _part(changes, StreamPart, "part to stream", "parts to stream"),
        count(len(published), "bundle") + f" to publish{amount}" if published else "",
        _part(changes, PinRoot, "to pin"),
        _part(changes, Repair, "to repair"),
        _part(changes, Relabel, "to relabel"),
        _part(changes, ResolveCid, "CID to write", "CIDs to write"),
        _part(changes, WriteLeaf, "version to log", "versions to log"),
        _part(changes, Unpin, "to unpin"),
        _part(changes, Wait, "waiting"),
        _part(changes, Blocked, "blocked"),
    ]
    parts = [part for part in parts if part] or ["nothing to do"]
    costs = "".join(f"; {plain(name)}: {price_text(cost)}" for name, cost in plan.costs.items())
    return f"{', '.join(parts)}; {plan.in_sync:,} in sync{costs}"


def report_summary(report: Report) -> str:
    """Summarize a report in one line: the number of changes in each state, and the bytes sent."""
    numbers = {state: sum(o.state is state for o in report.outcomes) for state in _SUMMARY}
    parts = [f"{number:,} {state}" for state, number in numbers.items() if number]
    sent = sum(o.bytes_sent for o in report.outcomes)
    text = ", ".join(parts) or "nothing to do"
    if sent:
        text += f"; {size(sent)} sent"
    if report.plan.in_sync:
        text += f"; {report.plan.in_sync:,} in sync"
    text += "".join(f"; {plain(name)}: {price_text(cost)}" for name, cost in report.costs.items())
    return text + ("; interrupted" if report.interrupted else "")


def _part(changes: Sequence[Change], kind: type[Change], words: str, plural: str = "") -> str:
    number = sum(isinstance(change, kind) for change in changes)
    return f"{number:,} {words if number == 1 or not plural else plural}" if number else ""


Line = tuple[str, str, list[str]]
"""A mark, the text after it, and further lines below."""


def _grouped(changes: Iterable[Change], paint: Paint, line: Callable[[Change], Line]) -> Iterator[str]:
    for model, group in groupby(changes, key=lambda change: change.model):
        yield paint(plain(model), "bold")
        for change in group:
            mark, text, below = line(change)
            yield f"  {paint(mark, mark)} {text}"
            yield from (f"      {paint(extra, 'dim')}" for extra in below)


def where(change: Change) -> str:
    """Return `1.2.0 → node`, or only the version for a change to the index."""
    place = f" → {change.target}" if change.target else ""
    return plain(f"{change.version}{place}")


def action(change: Change) -> str:
    """Describe what a change does, without its version and target."""
    match change:
        case StreamVersion():
            of = f"{size(change.size)} in {count(change.files, 'file')}"
            return f"stream {of} from {change.source} to {', '.join(change.targets)}"
        case StreamPart():
            return f"stream part {change.part} from {change.source} to {', '.join(change.targets)}"
        case Publish():
            amount = f" {size(change.size)}" if change.size is not None else ""
            return f"publish{amount} from {_from(change.sources)}"
        case Repair():
            blocks = f" {count(len(change.damaged), 'block')}" if change.damaged else ""
            return f"repair{blocks} from {_from(change.sources)}"
        case PinRoot():
            return "pin by CID" + (f", fetched from {', '.join(change.sources)}" if change.sources else "")
        case Relabel():
            return f"relabel {change.old} as {change.label}"
        case Unpin():
            return "unpin"
        case ResolveCid():
            return f"write cid {change.root}"
        case WriteRecord():
            return f"write {change.path}"
        case WriteLeaf():
            return f"log {', '.join(change.events)}"
        case Wait():
            return "waiting"
        case _:
            return "unknown" if isinstance(change, Blocked) and change.unknown else "blocked"


def mark(change: Change) -> str:
    """Return the mark at the start of a change's line."""
    match change:
        case StreamVersion() | StreamPart() | Publish() | PinRoot():
            return "+"
        case Unpin():
            return "-"
        case Blocked():
            return "!"
        case Wait():
            return "…"
        case _:
            return "~"


def _line(change: Change) -> Line:
    text = f"{where(change):<18} {plain(action(change))}"
    below = []
    if isinstance(change, Blocked):
        text += f": {plain(change.reason)}"
        below += _differences(change)
        if change.hint:
            below.append(f"hint: {plain(change.hint)}")
    elif change.reason and not isinstance(change, (ResolveCid, WriteRecord, WriteLeaf)):
        text += f"  ({plain(change.reason)})"
    if isinstance(change, Deliver) and change.cost is not None:
        below.append(cost_text(change.cost))
    return mark(change), text, below


def _outcome_line(outcome: Outcome) -> Line:
    change = outcome.change
    bad = outcome.state.is_failure
    sign = "!" if bad else mark(change)
    text = f"{where(change):<18} {plain(action(change))}"
    text += "" if isinstance(change, Blocked) else f": {outcome.state}"
    if outcome.detail and (bad or outcome.state is not OutcomeState.APPLIED or not change.target):
        text += f": {plain(outcome.detail)}"
    if outcome.bytes_sent and not bad:
        text += f", {size(outcome.bytes_sent)} sent"
    below = _differences(change) if isinstance(change, Blocked) else []
    if isinstance(change, Deliver) and change.cost is not None:
        below.append(cost_text(change.cost))
    return sign, text, [*below, *([f"hint: {plain(outcome.hint)}"] if outcome.hint else [])]


def _differences(change: Blocked) -> list[str]:
    """Return a line for each path that differs, where the reason does not name all of them."""
    differences = change.mismatch.differences if change.mismatch else ()
    if len(differences) <= MAX_SHOWN:
        return []
    lines = [plain(each.text) for each in differences[:MAX_LISTED]]
    more = len(differences) - len(lines)
    return [*lines, *([f"and {more:,} more; --json has them"] if more else [])]


def _from(sources: Sequence[str]) -> str:
    own = {DIRECTORY: "its directory", SOURCE: "its source"}
    return ", ".join(own.get(name, name) for name in sources)


def upstream_lines(upstream: Sequence[UpstreamFinding]) -> list[str]:
    """Render findings about sources, each with its hint below it."""
    lines = []
    for found in upstream:
        lines.append(f"upstream: {plain(found.text)}")
        if found.hint:
            lines.append(f"    hint: {plain(found.hint)}")
    return lines
