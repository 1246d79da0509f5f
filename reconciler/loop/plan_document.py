"""Plan and report as versioned JSON documents, and plans saved for `reconcile apply`.

The documents follow schemas/plan.schema.json and schemas/report.schema.json. The digest of a plan covers
everything in it except accounts, notes and findings, so two plans with one digest do the same. A saved plan
carries the options it was made with; it is carried out exactly, or refused.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from reconciler.content.lint.finding import Finding, finding_fields
from reconciler.errors import ReconcilerError, SafetyError, UsageError, Where
from reconciler.fs import replace_file
from reconciler.index.locations import RepositoryLayout
from reconciler.json_fields import JsonFields, load_json
from reconciler.loop.changes import (
    Blocked,
    Change,
    Deliver,
    Outcome,
    OutcomeState,
    PinRoot,
    Plan,
    Publish,
    Relabel,
    Repair,
    Report,
    StreamVersion,
    Unpin,
    Wait,
    WriteRecord,
)
from reconciler.loop.cost_document import account_document, cost_document
from reconciler.loop.log_leaves import WriteLeaf
from reconciler.loop.mismatch import Mismatch
from reconciler.loop.parts import StreamPart
from reconciler.loop.settings import Drift, ProposeMode, RunOptions, Scope
from reconciler.loop.upstream_finding import upstream_document
from reconciler.redaction import hide_secrets
from reconciler.targets.check import Check

E = TypeVar("E", bound=StrEnum)

SCHEMA = 1
MAX_DIFFERENCES = 1000  #: of one directory in a document
KINDS = (
    "stream",
    "stream-part",
    "publish",
    "pin",
    "repair",
    "relabel",
    "unpin",
    "resolve-cid",
    "write-record",
    "write-leaf",
    "wait",
    "blocked",
)

_MAX_BYTES = 64 << 20
_MAX_NAME = 200
_PLAN_AGAIN = "make and review a new plan with `reconcile plan -o FILE`"


# --- documents


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the JSON object of a plan, its digest included."""
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "plan",
        "index": {"id": plan.index_id, "digest": plan.index_digest},
        "targets_digest": plan.targets_digest,
        "check": plan.options.check.value,
        "options": _options_document(plan),
        "items": [_item(change, _planned_state(change)) for change in plan.changes],
        "summary": {**_counts(plan.changes), "in_sync": plan.in_sync},
        "suspended": list(plan.suspended),
        "refusals": [
            {"rule": refusal.rule, "message": refusal.message, "override": refusal.override}
            for refusal in plan.refusals
        ],
    }
    notes = [hide_secrets(note) for note in plan.notes]
    findings = [_finding(ref, found) for ref, several in plan.findings.items() for found in several]
    upstream = [upstream_document(found) for found in plan.upstream]
    accounts = [account_document(name, account) for name, account in plan.accounts.items()]
    return {
        **body,
        "digest": _digest(body),
        "accounts": accounts,
        "notes": notes,
        "findings": findings,
        "upstream": upstream,
    }


def report_document(report: Report) -> dict[str, Any]:
    """Return the JSON object of a report: its plan's, with the outcome of each item."""
    document = plan_document(report.plan)
    del document["options"]
    states = Counter(outcome.state for outcome in report.outcomes)
    document.update(
        kind="report",
        items=[_outcome_item(outcome) for outcome in report.outcomes],
        summary={
            **document["summary"],
            **{state.value: states.get(state, 0) for state in OutcomeState},
            "bytes_sent": sum(outcome.bytes_sent for outcome in report.outcomes),
        },
        interrupted=report.interrupted,
    )
    return document


def _finding(ref: str, found: Finding) -> dict[str, Any]:
    model, _, version = ref.partition("@")
    return {"model": model, "version": version, **finding_fields(found)}


def _options_document(plan: Plan) -> dict[str, Any]:
    options = plan.options
    return {
        "only": list(plan.only),
        "exclude": list(plan.exclude),
        "check": options.check.value,
        "drift": options.drift.value,
        "propose": options.propose.value,
        "prune": options.prune,
        "allow_removals": options.allow_removals,
        "base": options.base,
    }


def _counts(changes: tuple[Change, ...]) -> dict[str, int]:
    counts = Counter(change.kind for change in changes)
    return {kind: counts.get(kind, 0) for kind in KINDS}


def _planned_state(change: Change) -> str:
    if isinstance(change, Blocked):
        return (OutcomeState.UNKNOWN if change.unknown else OutcomeState.BLOCKED).value
    return OutcomeState.WAITING.value if isinstance(change, Wait) else "planned"


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
        case StreamVersion():
            item.update(
                sources=[change.source], targets=list(change.targets), files=change.files, bytes=change.size
            )
        case StreamPart():
            item.update(sources=[change.source], targets=list(change.targets), part=str(change.part))
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
        case WriteLeaf():
            item.update(path=change.path, events=list(change.events))
        case Blocked():
            item.update(hint=change.hint)
            if change.mismatch is not None:
                item.update(mismatch=_mismatch(change.mismatch))
        case _:
            pass
    if isinstance(change, Deliver) and change.cost is not None:
        item.update(cost=cost_document(change.cost))
    return item


def _mismatch(mismatch: Mismatch) -> dict[str, Any]:
    return {
        "found": None if mismatch.found is None else str(mismatch.found),
        "compared_with": mismatch.compared_with,
        "differences": [
            {
                "path": each.path,
                "change": each.change.value,
                "cause": None if each.cause is None else each.cause.value,
                "detail": each.detail,
                "hint": each.hint,
            }
            for each in mismatch.differences[:MAX_DIFFERENCES]
        ],
        "total": len(mismatch.differences),
    }


def _outcome_item(outcome: Outcome) -> dict[str, Any]:
    return {
        **_item(outcome.change, outcome.state.value),
        "detail": outcome.detail,
        "hint": outcome.hint,
        "bytes_sent": outcome.bytes_sent,
        "blocks_sent": outcome.blocks_sent,
    }


def _digest(body: dict[str, Any]) -> str:
    return (
        "sha256:" + hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    )


# --- saved plans


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan read from a file: what it was made from, the options it was made with, and its items."""

    digest: str
    index: dict[str, Any]
    targets_digest: str
    items: tuple[dict[str, Any], ...]
    options: RunOptions
    only: tuple[str, ...]
    exclude: tuple[str, ...]

    def scope(self, layout: RepositoryLayout, *, use_cache: bool = True) -> Scope:
        """Return the scope in which the plan has to be made again."""
        return Scope(layout, self.only, self.exclude, use_cache)


def save_plan(path: Path, plan: Plan) -> None:
    """Write a plan to `path` atomically. Raises ReconcilerError when it cannot be written."""
    text = json.dumps(plan_document(plan), indent=2, ensure_ascii=False) + "\n"
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise ReconcilerError(f"cannot save the plan to {str(path)!r}: {error.strerror}") from None


def read_saved(path: Path) -> SavedPlan:
    """Read a plan that `save_plan` wrote to `path`.

    Raises UsageError when the file is something else, or when an earlier version saved it without options,
    and SafetyError when a field has the wrong type.
    """
    where = Where(str(path))
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError("not a regular file", where=where)
        if found.st_size > _MAX_BYTES:
            raise UsageError("too large for a saved plan", where=where)
        value = load_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=where) from None
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.get("kind") != "plan":
        raise UsageError("not a saved plan", hint="make one with `reconcile plan -o FILE`", where=where)
    if value.get("schema") != SCHEMA:
        raise UsageError(
            f"the plan has schema {value.get('schema')!r}; this version supports {SCHEMA}", where=where
        )
    if "options" not in value:
        raise UsageError(
            "the plan was saved by an earlier version, without its options", hint=_PLAN_AGAIN, where=where
        )
    return _saved_plan(
        JsonFields(
            value,
            lambda text: SafetyError(f"the saved plan was edited: {text}", hint=_PLAN_AGAIN, where=where),
        )
    )


def _saved_plan(plan: JsonFields) -> SavedPlan:
    options = plan.at("options")
    return SavedPlan(
        digest=plan.text("digest"),
        index=plan.mapping("index"),
        targets_digest=plan.text("targets_digest"),
        items=tuple(item.mapping() for item in plan.items("items")),
        options=RunOptions(
            check=_choice(options, "check", Check),
            drift=_choice(options, "drift", Drift),
            propose=_choice(options, "propose", ProposeMode),
            prune=options.flag("prune"),
            allow_removals=options.number("allow_removals") if options.has("allow_removals") else None,
            base=options.text("base") if options.has("base") else None,
        ),
        only=tuple(glob.text() for glob in options.items("only")),
        exclude=tuple(glob.text() for glob in options.items("exclude")),
    )


def _choice(options: JsonFields, name: str, kind: type[E]) -> E:
    text = options.text(name)
    if text not in list(kind):
        raise options.error(f"one of {', '.join(kind)}", name)
    return kind(text)


def require_same(saved: SavedPlan, plan: Plan) -> None:
    """Raise SafetyError, naming what changed, unless `plan` is exactly the saved one."""
    fresh = plan_document(plan)
    if saved.digest == fresh["digest"] and list(saved.items) == fresh["items"]:
        return
    if saved.index != fresh["index"]:
        raise SafetyError("the index changed since the plan was saved", hint=_PLAN_AGAIN)
    if saved.targets_digest != fresh["targets_digest"]:
        raise SafetyError("the targets changed since the plan was saved", hint=_PLAN_AGAIN)
    before = {json.dumps(item, sort_keys=True) for item in saved.items}
    after = {json.dumps(item, sort_keys=True) for item in fresh["items"]}
    changed = [json.loads(text) for text in sorted(before ^ after)]
    named = ", ".join(dict.fromkeys(_item_name(item) for item in changed))
    what = f": {named}" if named else " (or the file was edited)"
    raise SafetyError(f"the changes differ from those of the saved plan{what}", hint=_PLAN_AGAIN)


def _item_name(item: dict[str, Any]) -> str:
    name = f"{item.get('model')}@{item.get('version')} on {item.get('target') or 'the index'}"
    return name if name.isprintable() and len(name) <= _MAX_NAME else repr(name[:_MAX_NAME])
