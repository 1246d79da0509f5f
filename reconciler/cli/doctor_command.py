"""`reconcile doctor`: is everything a run needs in order?"""

from __future__ import annotations

import os

from reconciler.cli import output as out
from reconciler.errors import ExitCode
from reconciler.loop.doctor import Finding, examine
from reconciler.loop.run import Run
from reconciler.loop.settings import Settings
from reconciler.render.words import plain


def show_findings(settings: Settings, *, as_json: bool) -> int:
    """Examine every target; exit 1 when something is not in order."""
    settings.layout.make_state()
    with out.progress() as progress, Run(settings, os.environ, progress) as run:
        findings = list(examine(run))
    bad = [finding for finding in findings if not finding.diagnosis.ok]
    if as_json:
        out.result_json(
            {"schema": 1, "kind": "doctor", "ok": not bad, "items": [_item(finding) for finding in findings]}
        )
    else:
        paint = out.paint()
        for finding in findings:
            found = finding.diagnosis
            sign = paint("ok", "ok") if found.ok else paint("!!", "!")
            out.result(f"{sign} {plain(finding.target)}: {plain(found.subject)}: {plain(found.text)}")
            if found.hint:
                out.result(f"   hint: {plain(found.hint)}")
    return ExitCode.ERROR if bad else ExitCode.OK


def _item(finding: Finding) -> dict[str, object]:
    found = finding.diagnosis
    return {
        "target": finding.target,
        "subject": found.subject,
        "ok": found.ok,
        "text": found.text,
        "hint": found.hint,
    }
