"""Plan and report as Markdown, for a pull request or a step summary.

Every name, path and message is set as code or escaped, so that nothing in an index can become markup, a
mention, or a link. A table that would be too long is cut, and says so: pull request bodies end at 65,536
characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from reconciler.loop.changes import Blocked, Change, Outcome, Plan, Report
from reconciler.render.text import action, mark, plan_summary, report_summary
from reconciler.render.words import plain

T = TypeVar("T")

MAX_CHARACTERS = 60_000  #: below GitHub's 65,536, so that a caller can put a title above it
FOLD_FROM = 25  #: rows; a longer table is folded where that is asked for
_RESERVE = 2_000  #: for refusals, notes and the line that says what was cut
_BREAK = "&#8203;"  #: a zero-width space: backslashes do not stop a forge from linking names and numbers
_LINKED = re.compile(r"@|#|!(?=[0-9])|\bGH\\-(?=[0-9])", re.IGNORECASE)
_SPECIAL = r"\`*_{}[]()<>#+-!|~@&$:"


def plan_markdown(plan: Plan, *, limit: int = MAX_CHARACTERS, fold: bool = False, more: str = "") -> str:
    """The plan: a summary, refusals, one table, notes.

    `fold` hides a long table behind its summary; `more` is Markdown that says where the rows are that were
    cut.
    """
    parts = [f"**Plan:** {plan_summary(plan)}."]
    for refusal in plan.refusals:
        way_round = f" — {escape(refusal.override)}" if refusal.override else ""
        parts.append(f"> **Refused:** {escape(refusal.message)}{way_round}")
    notes = "\n".join(f"- {escape(note)}" for note in plan.notes)
    head = "| | version | target | change | why |\n|---|---|---|---|---|"
    used = sum(map(len, parts)) + len(notes)
    table = _table(head, plan.changes, _plan_row, limit - used - _RESERVE, more)
    if fold and len(plan.changes) >= FOLD_FROM:
        table = f"<details><summary>All {len(plan.changes):,} changes</summary>\n\n{table}\n\n</details>"
    parts.append(table)
    if notes:
        parts.append(f"<details><summary>Notes</summary>\n\n{notes}\n\n</details>")
    return _fit("\n\n".join(part for part in parts if part) + "\n", limit)


def report_markdown(report: Report, *, limit: int = MAX_CHARACTERS) -> str:
    """The report: a summary and one table."""
    head = "| | version | target | change | result |\n|---|---|---|---|---|"
    parts = [f"**Result:** {report_summary(report)}."]
    parts.append(_table(head, report.outcomes, _report_row, limit - _RESERVE))
    return _fit("\n\n".join(part for part in parts if part) + "\n", limit)


def escape(text: str) -> str:
    """`text` as Markdown that shows just it, on one line."""
    escaped = "".join("\\" + c if c in _SPECIAL else c for c in plain(text))
    return _LINKED.sub(lambda found: found[0] + _BREAK, escaped)


def code(text: str) -> str:
    """`text` as inline code that fits into a table cell."""
    safe = plain(text).replace("|", r"\x7c")  # no escape of it is sure inside code inside a table
    fence = "`" * (max((len(run) for run in _runs(safe)), default=0) + 1)
    pad = " " if safe.startswith("`") or safe.endswith("`") else ""
    return f"{fence}{pad}{safe}{pad}{fence}" if safe else ""


def _runs(text: str) -> list[str]:
    return ["`" * len(run) for run in "".join(c if c == "`" else " " for c in text).split()]


def _table(head: str, rows: Sequence[T], render: Callable[[T], str], budget: int, more: str = "") -> str:
    """All rows that fit into `budget` characters, and how many did not."""
    if not rows:
        return ""
    lines, used = [head], len(head)
    for number, row in enumerate(rows):
        line = render(row)
        used += len(line) + 1
        if used > budget:
            left_out = f"…and {len(rows) - number:,} more, left out to fit{more}."
            return "\n".join(lines) + f"\n\n{left_out}"
        lines.append(line)
    return "\n".join(lines)


def _plan_row(change: Change) -> str:
    why = escape(change.reason)
    if isinstance(change, Blocked) and change.hint:
        why += f" — {escape(change.hint)}"
    return _row(change, why)


def _report_row(outcome: Outcome) -> str:
    result = f"**{outcome.state}**" if outcome.state in {"failed", "blocked", "unknown"} else outcome.state
    told = "; ".join(escape(text) for text in (outcome.detail, outcome.hint) if text)
    return _row(outcome.change, f"{result}: {told}" if told else result)


def _row(change: Change, last: str) -> str:
    target = code(change.target) if change.target else "the index"
    return f"| {code(mark(change))} | {code(change.ref)} | {target} | {escape(action(change))} | {last} |"


def _fit(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 2] + "…\n"
