"""What probes found, as text and as a part of the status document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reconciler.loop.probing import Probed
from reconciler.probes.interface import Finding, Verdict
from reconciler.render.text import Paint
from reconciler.render.words import count, plain

_MARKS = {Verdict.SERVED: "ok", Verdict.NOT_PROBED: "-"}


def probes_document(probed: Sequence[Probed]) -> list[dict[str, Any]]:
    """One object a version, with its providers."""
    return [
        {
            "model": one.model,
            "version": one.version,
            "cid": str(one.root),
            "problem": one.problem or None,
            "providers": [
                {
                    "peer": finding.provider.peer,
                    "address": finding.url or None,
                    "verdict": finding.verdict.value,
                    "leaves": finding.leaves,
                    "latency_seconds": None if finding.latency is None else round(finding.latency, 3),
                    "detail": finding.detail,
                }
                for finding in one.findings
            ],
        }
        for one in probed
    ]


def probes_text(probed: Sequence[Probed], paint: Paint) -> str:
    """One line a provider, grouped by version."""
    lines = [paint("Providers, as delegated routing names them", "bold")]
    for one in probed:
        lines.append(f"  {plain(one.model)}@{plain(one.version)}  {one.root}")
        if one.problem:
            lines.append(f"    ! {plain(one.problem)}")
        elif not one.findings:
            lines.append("    - nobody is said to provide it")
        lines += [_line(finding, paint) for finding in one.findings]
    served = sum(finding.verdict is Verdict.SERVED for one in probed for finding in one.findings)
    asked = sum(finding.verdict is not Verdict.NOT_PROBED for one in probed for finding in one.findings)
    lines += [
        "",
        paint(f"Probes: {served} of {count(asked, 'provider')} served what they were asked for.", "bold"),
    ]
    return "\n".join(lines) + "\n"


def _line(finding: Finding, paint: Paint) -> str:
    who = finding.url or finding.provider.peer or "a provider without a name"
    verdict = paint(f"{finding.verdict.value:<11}", _MARKS.get(finding.verdict, "!"))
    what = count(finding.leaves, "leaf", "leaves") if finding.verdict is Verdict.SERVED else finding.detail
    if finding.latency is not None:
        what += (
            f", {finding.latency:.2f} s"
            if finding.verdict is Verdict.SERVED
            else f"; {finding.latency:.2f} s"
        )
    return f"    {verdict} {plain(who)}" + (paint(f"  ({plain(what)})", "dim") if what else "")
