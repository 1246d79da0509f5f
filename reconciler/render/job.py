"""What a job of a workflow says on its pull request and in its step summary, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from reconciler.loop.changes import Plan, Report
from reconciler.render.markdown import MAX_CHARACTERS, escape, plan_markdown, report_markdown
from reconciler.render.workflow import SUMMARY_LIMIT

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
