"""`reconcile doctor`: is everything a run needs in order, and may its token do what a proposal needs?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing

from reconciler.cli import output as out
from reconciler.errors import ExitCode
from reconciler.forges.interface import Access
from reconciler.loop.inspection import DoctorFinding, diagnose_targets
from reconciler.loop.settings import Scope
from reconciler.loop.workspace import load
from reconciler.render.words import plain
from reconciler.targets.interface import Diagnosis

_WORDS = {True: "allowed", False: "not allowed", None: "only trying would tell"}
_SIGNS = {True: ("ok", "ok"), False: ("!!", "!"), None: ("??", "~")}


def show_findings(scope: Scope, *, as_json: bool) -> int:
    """Examine every target; exit 1 when something is not in order."""
    scope.layout.make_state()
    with out.progress() as progress, load(scope, os.environ, progress) as workspace:
        return _show(list(diagnose_targets(workspace)), as_json=as_json)


def show_access(*, as_json: bool) -> int:
    """Ask the forge that the environment names what its token may do; exit 1 when something is missing.

    What a forge does not tell without being tried is neither in order nor missing.
    """
    from reconciler.forges.open import open_forge_for_comments

    with out.progress() as progress, closing(open_forge_for_comments(os.environ, progress)) as forge:
        return _show(
            [DoctorFinding(forge.name, each) for each in _diagnoses(forge.access())], as_json=as_json
        )


def _diagnoses(access: Access) -> Iterator[Diagnosis]:
    yield Diagnosis("token", True, f"{access.kind} that speaks for {access.login}")
    for ability in access.abilities:
        yield Diagnosis(ability.name, ability.granted, _WORDS[ability.granted], ability.hint)
    for note in access.notes:
        yield Diagnosis("note", None, note)


def _show(findings: Sequence[DoctorFinding], *, as_json: bool) -> int:
    bad = [finding for finding in findings if finding.diagnosis.ok is False]
    if as_json:
        out.result_json(
            {"schema": 1, "kind": "doctor", "ok": not bad, "items": [_item(finding) for finding in findings]}
        )
    else:
        paint = out.paint()
        for finding in findings:
            found = finding.diagnosis
            sign = paint(*_SIGNS[found.ok])
            out.result(f"{sign} {plain(finding.target)}: {plain(found.subject)}: {plain(found.text)}")
            if found.hint:
                out.result(f"   hint: {plain(found.hint)}")
    return ExitCode.ERROR if bad else ExitCode.OK


def _item(finding: DoctorFinding) -> dict[str, object]:
    found = finding.diagnosis
    return {
        "target": finding.target,
        "subject": found.subject,
        "ok": found.ok,
        "text": found.text,
        "hint": found.hint,
    }
