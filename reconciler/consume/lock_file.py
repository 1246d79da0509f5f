"""models.lock: the exact versions that a consumer uses, read by `fetch --locked`.

A JSON file for people and version control: every requested reference and the version it resolved to. Its
bytes depend only on its entries, which are sorted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from reconciler.consume.beside import fetch_record
from reconciler.consume.trusted import require_version, trust_check
from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError, PeerError, UsageError, Where
from reconciler.fs import replace_file
from reconciler.git.repository import head_without_git
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Index
from reconciler.index.records import load_record, records_directory
from reconciler.index.resolve import Exact, parse_ref, resolve
from reconciler.json_fields import JsonFields, load_json

NAME = "models.lock"
_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LockEntry:
    """A requested reference and the version it resolved to.

    `size` in bytes and `dirhash` are from the version's record, `commit` is the commit of the index's
    repository; each is None when unknown.
    """

    requested: str
    model: str
    version: str
    cid: Cid
    size: int | None
    dirhash: str | None
    commit: str | None


def read_lock(path: Path) -> dict[str, LockEntry]:
    """Return the entries of the lock file `path` by requested reference.

    Raises UsageError when it is missing, unreadable or invalid.
    """
    try:
        with path.open("rb") as file:
            document = JsonFields(load_json(file.read(_MAX_BYTES)), ValueError)
        if document.number("schema") != 1:
            raise ValueError("unknown schema")
        entries = [_parse_entry(fields) for fields in document.items("models")]
    except FileNotFoundError:
        hint = "create it with `reconcile lock REF`"
        raise UsageError(f"no {path.name} at {str(path)!r}", hint=hint) from None
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, DataError) as error:
        raise UsageError(
            f"invalid lock file: {error}",
            hint="create it again with `reconcile lock`",
            where=Where(str(path)),
        ) from None
    return {entry.requested: entry for entry in entries}


def locked_entry(path: Path, ref: str) -> LockEntry:
    """Return the entry of the lock file `path` for `ref`, as it was requested or as the version it names.

    Raises UsageError when there is none, and when it locks an exact reference to another version: releases
    before 1.0 took `v1.0.0+cu118` for a range, and locked another build.
    """
    entries = read_lock(path)
    selector = parse_ref(ref).selector
    exact = f"{parse_ref(ref).model}@{selector.version}" if isinstance(selector, Exact) else None
    entry = entries.get(ref) or next(
        (each for each in entries.values() if f"{each.model}@{each.version}" == exact), None
    )
    if entry is None:
        known = ", ".join(entries) or "no entry"
        raise UsageError(f"{ref!r} is not in {str(path)!r}, which has {known}", hint=f"reconcile lock {ref}")
    found = f"{entry.model}@{entry.version}"
    if exact is not None and found != exact:
        raise UsageError(
            f"{str(path)!r} locks {ref!r} to {found}, which is another version",
            hint=f"lock it again: reconcile lock {ref}",
        )
    return entry


def write_lock(path: Path, entries: Mapping[str, LockEntry]) -> None:
    """Write the lock file atomically. Raises LockedError and OSError."""
    models = [asdict(entry) | {"cid": str(entry.cid)} for _, entry in sorted(entries.items())]
    document = json.dumps({"schema": 1, "models": models}, indent=2) + "\n"
    replace_file(path, document.encode(), mode=0o644)


def _parse_entry(fields: JsonFields) -> LockEntry:
    return LockEntry(
        requested=fields.text("requested"),
        model=fields.text("model"),
        version=fields.text("version"),
        cid=cids.parse(fields.text("cid")),
        size=fields.number("size") if fields.has("size") else None,
        dirhash=fields.text("dirhash") if fields.has("dirhash") else None,
        commit=fields.text("commit") if fields.has("commit") else None,
    )


def lock_reference(
    layout: RepositoryLayout, index: Index, ref: str, *, offline: bool
) -> tuple[LockEntry, str]:
    """Return the entry that locks `ref`, and a warning: why its size could not be locked, or what a trust
    rule says about it ("" without one).

    Size and dirhash come from the version's record, which is downloaded for a remote index unless `offline`.
    Raises UsageError when `ref` is a CID or names no version that has one, TrustError when a trust rule
    refuses the version.
    """
    parsed = parse_ref(ref)
    if parsed.cid is not None:
        raise UsageError(
            f"{ref!r} is a CID, which needs no lock", hint=f"run `reconcile fetch {ref}` without --locked"
        )
    version = resolve(index, parsed).version
    assert version is not None and version.cid is not None  # noqa: S101, PT018  a reference to a model
    outcome = require_version(trust_check(layout, index, offline=offline), version)
    records, problem = records_directory(layout.index_file), "; ".join(outcome.warnings)
    if layout.origin is not None and not offline:
        try:
            fetch_record(layout.origin.place, layout.origin.commit, records, version)
        except PeerError as error:
            problem = f"cannot read the record of {version.ref}, so its size is not locked: {error.message}"
    record = load_record(records, version.model, version.version)
    entry = LockEntry(
        requested=ref,
        model=version.model,
        version=version.version,
        cid=version.cid,
        size=record.size if record else None,
        dirhash=record.dirhash if record else None,
        commit=_index_commit(layout),
    )
    return entry, problem


def _index_commit(layout: RepositoryLayout) -> str | None:
    """Return the commit of the index; a remote index has none of the repository around its local copy."""
    if layout.origin is not None:
        return layout.origin.commit
    return head_without_git(layout.index_file.parent.resolve())
