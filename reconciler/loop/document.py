"""Plan and report as one versioned JSON shape (schemas/plan.schema.json, schemas/report.schema.json).

The digest of a plan covers everything in it but the notes, so two plans with one digest do the same.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from reconciler.loop.changes import (
    Blocked,
    Change,
    Outcome,
    Pin,
    Plan,
    Publish,
    Relabel,
    Repair,
    Report,
    Unpin,
    Wait,
    WriteRecord,
)

SCHEMA = 1


def plan_document(plan: Plan) -> dict[str, Any]:
    """The JSON object of a plan, its digest included."""
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "plan",
        "index": {"id": plan.index_id, "digest": plan.index_digest},
        "targets_digest": plan.targets_digest,
        "check": plan.check,
        "items": [_item(change, _planned_state(change)) for change in plan.changes],
        "summary": {**_counts(plan.changes), "in_sync": plan.in_sync},
        "refusals": [
            {"rule": refusal.rule, "message": refusal.message, "override": refusal.override}
            for refusal in plan.refusals
        ],
    }
    return {**body, "digest": _digest(body), "notes": list(plan.notes)}


def report_document(report: Report) -> dict[str, Any]:
    """The JSON object of a report: its plan's, with what became of each item."""
    document = plan_document(report.plan)
    states = Counter(outcome.state for outcome in report.outcomes)
    document.update(
        kind="report",
        items=[_outcome_item(outcome) for outcome in report.outcomes],
        summary={
            **document["summary"],
            **{state: states.get(state, 0) for state in OUTCOME_STATES},
            "bytes_sent": sum(outcome.bytes_sent for outcome in report.outcomes),
        },
        interrupted=report.interrupted,
    )
    return document


OUTCOME_STATES = ("applied", "waiting", "failed", "skipped", "blocked", "unknown", "reported")

KINDS = ("publish", "pin", "repair", "relabel", "unpin", "resolve-cid", "write-record", "wait", "blocked")


def _counts(changes: tuple[Change, ...]) -> dict[str, int]:
    counts = Counter(change.kind for change in changes)
    return {kind: counts.get(kind, 0) for kind in KINDS}


def _planned_state(change: Change) -> str:
    if isinstance(change, Blocked):
        return "unknown" if change.unknown else "blocked"
    return "waiting" if isinstance(change, Wait) else "planned"


def _item(change: Change, state: str) -> dict[str, Any]:
    item: dict[str, Any] = {
        "change": change.kind,
        "model": change.model,
        "version": change.version,
        "target": change.target,
        "cid": str(change.root) if change.root else None,
        "state": state,
        "drift": change.drift,
        "reason": change.reason,
    }
    match change:
        case Publish():
            item.update(label=change.label, sources=list(change.sources), bytes=change.size)
        case Repair():
            item.update(label=change.label, sources=list(change.sources), damaged=len(change.damaged))
        case Pin():
            item.update(label=change.label, sources=list(change.sources))
        case Relabel():
            item.update(label=change.label, old_label=change.old)
        case Unpin():
            item.update(label=change.label)
        case WriteRecord():
            item.update(path=change.path, bytes=change.size)
        case Blocked():
            item.update(hint=change.hint)
        case _:
            pass
    return item


def _outcome_item(outcome: Outcome) -> dict[str, Any]:
    return {
        **_item(outcome.change, outcome.state),
        "detail": outcome.detail,
        "hint": outcome.hint,
        "bytes_sent": outcome.bytes_sent,
        "blocks_sent": outcome.blocks_sent,
    }


def _digest(body: dict[str, Any]) -> str:
    return (
        "sha256:" + hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    )
