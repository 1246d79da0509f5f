"""Findings about the files of a release as lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from reconciler.content.lint.finding import Finding, Severity
from reconciler.render.words import count, plain


def word(found: Finding) -> str:
    """Return what a finding means: `refused`, `accepted` or `warning`."""
    if found.accepted:
        return "accepted"
    return "warning" if found.code.severity is Severity.WARNING else "refused"


def warning_lines(warnings: Iterable[tuple[str, Finding]]) -> Iterator[str]:
    """Yield one line for each version and code: the first finding, and how many more there are.

    `warnings` are pairs of `model@version` and a finding; those of one version and code are adjacent.
    """
    for (ref, code), group in groupby(warnings, key=lambda pair: (pair[0], pair[1].code)):
        found = [each for _, each in group]
        first = found[0]
        more = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
        accepted = "accepted: " if first.accepted else ""
        advice = first.advice if first.refuses else first.hint
        yield f"{ref}: {accepted}{first.message}{more}; {advice} [{code}]"


def finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield two lines for each finding: what it is, and what to do."""
    for each in findings:
        yield f"{word(each)}: {plain(each.message)} [{each.code}]"
        yield f"  hint: {plain(each.advice if each.refuses else each.hint)}"


def findings_summary(findings: Sequence[Finding], name: str) -> str:
    """Return one line that counts the findings about `name`."""
    numbers = Counter(map(word, findings))
    parts = [
        f"{numbers['refused']:,} refused" if numbers["refused"] else "",
        f"{numbers['accepted']:,} accepted" if numbers["accepted"] else "",
        count(numbers["warning"], "warning") if numbers["warning"] else "",
    ]
    return f"{plain(name)}: {', '.join(part for part in parts if part) or 'no findings'}"
