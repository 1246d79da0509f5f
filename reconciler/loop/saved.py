"""A plan saved by `plan -o` and carried out by `apply`: exactly that, or nothing."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from reconciler.errors import SafetyRefusal, UsageError, Where
from reconciler.loop.changes import Plan
from reconciler.loop.document import SCHEMA, plan_document

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
    """Raise SafetyRefusal, saying what moved, unless `plan` is exactly the saved one."""
    fresh = plan_document(plan)
    if saved.get("digest") == fresh["digest"] and saved.get("items") == fresh["items"]:
        return
    again = "make and review a new plan with `reconcile plan -o FILE`"
    if saved.get("index") != fresh["index"]:
        raise SafetyRefusal("the index changed since the plan was saved", hint=again)
    if saved.get("targets_digest") != fresh["targets_digest"]:
        raise SafetyRefusal("the targets changed since the plan was saved", hint=again)
    before = {json.dumps(item, sort_keys=True) for item in _items(saved)}
    after = {json.dumps(item, sort_keys=True) for item in fresh["items"]}
    moved = [json.loads(text) for text in sorted(before ^ after)]
    named = ", ".join(dict.fromkeys(_named(item) for item in moved))
    what = f": {named}" if named else " (other options were given, or the file was edited)"
    raise SafetyRefusal(f"the world changed since the plan was saved{what}", hint=again)


def _items(document: dict[str, Any]) -> list[Any]:
    items = document.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _named(item: dict[str, Any]) -> str:
    name = f"{item.get('model')}@{item.get('version')} on {item.get('target') or 'the index'}"
    return name if name.isprintable() and len(name) <= _MAX_NAME else repr(name[:_MAX_NAME])
