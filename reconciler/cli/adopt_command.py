"""`reconcile adopt`: pins made by others that are versions of the index."""

from __future__ import annotations

import os

from reconciler.cli import output as out
from reconciler.errors import ExitCode
from reconciler.loop.inspection import ForeignPin, adopt_pins, foreign_pins
from reconciler.loop.observe import observe
from reconciler.loop.settings import Scope
from reconciler.loop.workspace import load, run_lock
from reconciler.render.words import count, plain
from reconciler.targets.check import Check


def show_foreign_pins(scope: Scope, check: Check, *, take: bool, every: bool, as_json: bool) -> int:
    """List foreign pins that match versions, or `every` one; with `take`, put our labels on the matching."""
    scope.layout.make_state()
    with (
        run_lock(scope.layout.state, "reconcile adopt"),
        out.progress() as progress,
        load(scope, os.environ, progress) as workspace,
    ):
        found = list(foreign_pins(workspace, observe(workspace, check)))
        matching = [candidate for candidate in found if candidate.ref]
        results = dict.fromkeys(found, "")
        if take:
            results.update(adopt_pins(workspace, matching))
    shown = found if every else matching
    if as_json:
        items = [_item(candidate, results[candidate], take=take) for candidate in shown]
        out.result_json(
            {
                "schema": 1,
                "kind": "adopt",
                "items": items,
                "summary": {"foreign": len(found), "matching": len(matching)},
            }
        )
    else:
        for candidate in shown:
            out.result(_line(candidate, results[candidate], take=take))
        out.say(f"{count(len(found), 'foreign pin')}, {len(matching):,} of them versions of the index")
        if matching and not take:
            out.say("hint: `reconcile adopt --take` puts our label on those")
    return ExitCode.PARTIAL if any(results.values()) else ExitCode.OK


def _line(candidate: ForeignPin, problem: str, *, take: bool) -> str:
    what = candidate.ref or "no version of the index"
    name = f" named {candidate.pin.label!r}" if candidate.pin.label else ""
    state = f": {problem}" if problem else ": taken over" if take and candidate.ref else ""
    return plain(f"{candidate.target}: {candidate.pin.root}{name}: {what}{state}")


def _item(candidate: ForeignPin, problem: str, *, take: bool) -> dict[str, object]:
    model, _, version = candidate.ref.partition("@")
    taken = take and bool(candidate.ref) and not problem
    return {
        "target": candidate.target,
        "cid": str(candidate.pin.root),
        "label": candidate.pin.label,
        "model": model or None,
        "version": version or None,
        "state": "adopted" if taken else "failed" if problem else "foreign",
        "detail": problem,
    }
