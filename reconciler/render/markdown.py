"""Plans, reports and pull requests as Markdown.

Every name, path and message is escaped or rendered as code, so that nothing in an index can become markup, a
mention or a link. A table that would be too long is truncated, and says so: GitHub limits the body of a pull
request to 65,536 characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from reconciler.index.model import Record
from reconciler.loop.changes import Blocked, Change, Deliver, Outcome, OutcomeState, Plan, Report
from reconciler.loop.mismatch import MAX_SHOWN
from reconciler.render.costs import account_lines, cost_text
from reconciler.render.findings import warning_lines
from reconciler.render.text import MAX_LISTED, action, mark, plan_summary, report_summary
from reconciler.render.words import count, plain, size

T = TypeVar("T")

MAX_CHARACTERS = 60_000  #: below GitHub's limit of 65,536, so that a caller can add a title
FOLD_FROM = 25  #: rows from which a table is collapsed, where the caller wants that
_EMPHASIZED = frozenset({OutcomeState.FAILED, OutcomeState.BLOCKED, OutcomeState.UNKNOWN})
_RESERVE = 2_000  #: characters for refusals, notes and the line that says what was left out
_BREAK = "&#8203;"  #: a zero-width space: backslashes do not keep a forge from linking names
_LINKED = re.compile(r"@|#|!(?=[0-9])|\bGH\\-(?=[0-9])", re.IGNORECASE)
_SPECIAL = r"\`*_{}[]()<>#+-!|~@&$:"


def plan_markdown(plan: Plan, *, limit: int = MAX_CHARACTERS, fold: bool = False, more: str = "") -> str:
    """Render a plan: a summary, refusals, a table of changes, notes.

    `fold` collapses a table of at least FOLD_FROM rows; `more` is Markdown that says where to find the rows
    that did not fit into `limit` characters.
    """
    parts = [f"**Plan:** {plan_summary(plan)}."]
    for refusal in plan.refusals:
        override = f" — {escape(refusal.override)}" if refusal.override else ""
        parts.append(f"> **Refused:** {escape(refusal.message)}{override}")
    parts += [f"**Account:** {escape(line)}" for line in account_lines(plan.accounts, settled=True)]
    warnings = [f"warning: {warning}" for warning in warning_lines(plan.warnings)]
    notes = "\n".join(f"- {escape(note)}" for note in (*plan.notes, *warnings))
    head = "| | version | target | change | why |\n|---|---|---|---|---|"
    used = sum(map(len, parts)) + len(notes)
    table = _table(head, plan.changes, _plan_row, limit - used - _RESERVE, more)
    if fold and len(plan.changes) >= FOLD_FROM:
        table = f"<details><summary>All {len(plan.changes):,} changes</summary>\n\n{table}\n\n</details>"
    parts.append(table)
    parts += _differences(plan.changes)
    parts.append(_upstream(plan))
    if notes:
        parts.append(f"<details><summary>Notes</summary>\n\n{notes}\n\n</details>")
    return _fit("\n\n".join(part for part in parts if part) + "\n", limit)


def report_markdown(report: Report, *, limit: int = MAX_CHARACTERS) -> str:
    """Render a report: a summary and a table of outcomes."""
    head = "| | version | target | change | result |\n|---|---|---|---|---|"
    parts = [f"**Result:** {report_summary(report)}."]
    parts.append(_table(head, report.outcomes, _report_row, limit - _RESERVE))
    parts += _differences([outcome.change for outcome in report.outcomes])
    parts.append(_upstream(report.plan))
    return _fit("\n\n".join(part for part in parts if part) + "\n", limit)


def _upstream(plan: Plan) -> str:
    """Return the findings about sources as a list, "" without any."""
    lines = [f"- {escape(found.text)}" for found in plan.upstream[:MAX_LISTED]]
    if (more := len(plan.upstream) - len(lines)) > 0:
        lines.append(f"- and {more:,} more")
    return "\n".join(["**Upstream:**", "", *lines]) if lines else ""


def _differences(changes: Sequence[Change]) -> Iterator[str]:
    """Yield what differs in each directory that no longer gives the published CID, collapsed."""
    for change in changes:
        differences = change.mismatch.differences if isinstance(change, Blocked) and change.mismatch else ()
        if len(differences) <= MAX_SHOWN:
            continue
        lines = [f"- {escape(each.text)}" for each in differences[:MAX_LISTED]]
        if (more := len(differences) - len(lines)) > 0:
            lines.append(f"- and {more:,} more")
        summary = f"{count(len(differences), 'difference')} of {escape(change.ref)}"
        yield f"<details><summary>{summary}</summary>\n\n" + "\n".join(lines) + "\n\n</details>"


def escape(text: str) -> str:
    """Escape `text` so that Markdown shows it literally, on one line."""
    escaped = "".join("\\" + c if c in _SPECIAL else c for c in plain(text))
    return _LINKED.sub(lambda found: found[0] + _BREAK, escaped)


def code(text: str) -> str:
    """Render `text` as inline code that is safe in a table cell."""
    safe = plain(text).replace("|", r"\x7c")  # no escape of it is reliable in code in a table
    fence = "`" * (max((len(run) for run in _runs(safe)), default=0) + 1)
    pad = " " if safe.startswith("`") or safe.endswith("`") else ""
    return f"{fence}{pad}{safe}{pad}{fence}" if safe else ""


def _runs(text: str) -> list[str]:
    return ["`" * len(run) for run in "".join(c if c == "`" else " " for c in text).split()]


def _table(head: str, rows: Sequence[T], render: Callable[[T], str], budget: int, more: str = "") -> str:
    """Render the rows that fit into `budget` characters, and say how many were left out."""
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
    if isinstance(change, Deliver) and change.cost is not None:
        why += f"{'; ' if why else ''}{escape(cost_text(change.cost))}"
    return _row(change, why)


def _report_row(outcome: Outcome) -> str:
    result = f"**{outcome.state}**" if outcome.state in _EMPHASIZED else outcome.state
    change = outcome.change
    cost = cost_text(change.cost) if isinstance(change, Deliver) and change.cost is not None else ""
    details = "; ".join(escape(text) for text in (outcome.detail, outcome.hint, cost) if text)
    return _row(outcome.change, f"{result}: {details}" if details else result)


def _row(change: Change, last: str) -> str:
    target = code(change.target) if change.target else "the index"
    return f"| {code(mark(change))} | {code(change.ref)} | {target} | {escape(action(change))} | {last} |"


def _fit(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 2] + "…\n"


def describe(cids: Sequence[tuple[str, str]], records: Sequence[Record], directory: str) -> tuple[str, str]:
    """Return the title and body of a pull request that resolves `cids`: pairs of `model@version` and CID.

    `directory` is the directory of records, relative to the repository.
    """
    title = f"Resolve {cids[0][0]}" if len(cids) == 1 else f"Resolve {count(len(cids), 'CID')}"
    return title, _body(cids, records, directory)


def templated(
    title: str, body: str
) -> Callable[[Sequence[tuple[str, str]], Sequence[Record], str], tuple[str, str]]:
    """Return a function like `describe` that fills the templates `title` and `body`.

    `{title}`, `{body}` and `{versions}` are replaced by the default title, the default body and the list of
    versions; other braces are kept. An empty template means the default.
    """

    def describe_by_template(
        cids: Sequence[tuple[str, str]], records: Sequence[Record], directory: str
    ) -> tuple[str, str]:
        ours = describe(cids, records, directory)
        versions = ", ".join(ref for ref, _ in cids)
        return _filled(title or "{title}", ours, versions), _filled(body or "{body}", ours, versions)

    return describe_by_template


def _filled(template: str, ours: tuple[str, str], versions: str) -> str:
    words = {"{title}": ours[0], "{body}": ours[1], "{versions}": versions}
    return re.sub(r"\{(?:title|body|versions)\}", lambda found: words[found[0]], template)


def _body(cids: Sequence[tuple[str, str]], records: Sequence[Record], directory: str) -> str:
    facts = {f"{record.model}@{record.version}": record for record in records}
    lines = [
        "These versions were published, and every block was verified on the targets.",
        "",
        "| version | CID | size | record |",
        "|---|---|---|---|",
    ]
    used = sum(map(len, lines))
    for number, (ref, cid) in enumerate(cids):
        record = facts.get(ref)
        amount = f"{size(record.size)} in {count(record.files, 'file')}" if record else ""
        path = f"{directory}/{record.model}/{record.version}.json" if record else ""
        line = f"| {code(ref)} | {code(cid)} | {amount} | {code(path)} |"
        used += len(line) + 1
        if used > MAX_CHARACTERS:
            lines.append(f"\n…and {len(cids) - number:,} more, left out to fit.")
            break
        lines.append(line)
    lines += [
        "",
        "To check one yourself, run `reconcile verify MODEL@VERSION` where its files are: it reads every",
        "byte and prints `ok` with the CID above. After the merge the next run has nothing left to do.",
    ]
    return "\n".join(lines) + "\n"
