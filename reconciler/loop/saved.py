"""Plan and report as one versioned JSON shape (schemas/plan.schema.json, schemas/report.schema.json).

The digest of a plan covers everything in it but the notes, so two plans with one digest do the same.

A plan saved by `plan -o` and carried out by `apply`: exactly that, or nothing.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from reconciler.errors import SafetyError, UsageError, Where
from reconciler.loop.changes import (
    Blocked,
    Change,
    Outcome,
    PinRoot,
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
        case PinRoot():
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


_MAX_BYTES = 64 << 20
_MAX_NAME = 200


def read_saved(path: Path) -> dict[str, Any]:
    """The document that `plan -o` wrote to `path`. Raises UsageError when it is something else."""
    where = Where(str(path))
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError("not a regular file", where=where)
        if found.st_size > _MAX_BYTES:
            raise UsageError("too large for a saved plan", where=where)
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=where) from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("kind") != "plan":
        raise UsageError("not a saved plan", hint="make one with `reconcile plan -o FILE`", where=where)
    if document.get("schema") != SCHEMA:
        raise UsageError(
            f"a plan of schema {document.get('schema')!r}, this version knows {SCHEMA}", where=where
        )
    return document


def require_same(saved: dict[str, Any], plan: Plan) -> None:
    """Raise SafetyError, saying what moved, unless `plan` is exactly the saved one."""
    fresh = plan_document(plan)
    if saved.get("digest") == fresh["digest"] and saved.get("items") == fresh["items"]:
        return
    again = "make and review a new plan with `reconcile plan -o FILE`"
    if saved.get("index") != fresh["index"]:
        raise SafetyError("the index changed since the plan was saved", hint=again)
    if saved.get("targets_digest") != fresh["targets_digest"]:
        raise SafetyError("the targets changed since the plan was saved", hint=again)
    before = {json.dumps(item, sort_keys=True) for item in _items(saved)}
    after = {json.dumps(item, sort_keys=True) for item in fresh["items"]}
    moved = [json.loads(text) for text in sorted(before ^ after)]
    named = ", ".join(dict.fromkeys(_named(item) for item in moved))
    what = f": {named}" if named else " (other options were given, or the file was edited)"
    raise SafetyError(f"the world changed since the plan was saved{what}", hint=again)


def _items(document: dict[str, Any]) -> list[Any]:
    items = document.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _named(item: dict[str, Any]) -> str:
    name = f"{item.get('model')}@{item.get('version')} on {item.get('target') or 'the index'}"
    return name if name.isprintable() and len(name) <= _MAX_NAME else repr(name[:_MAX_NAME])
