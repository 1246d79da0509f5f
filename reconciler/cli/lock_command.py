"""`reconcile lock`: write down what references mean today, for `fetch --locked`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from reconciler.cli import output as out
from reconciler.consume.lock_file import LockEntry, read_lock, write_lock
from reconciler.consume.remote_index import fetch_record
from reconciler.errors import ExitCode, PeerError, UsageError
from reconciler.git.repository import head_without_git
from reconciler.index.layout import Layout
from reconciler.index.load import load_index
from reconciler.index.model import Index
from reconciler.index.recorded import records_directory
from reconciler.index.records import load_record
from reconciler.index.resolve import parse_ref, resolve


def lock_versions(
    layout: Layout, refs: Sequence[str], file: Path, *, check: bool, offline: bool, as_json: bool
) -> int:
    """Resolve `refs` (without any, those in the lock) and write the lock; with `check` only compare. Nobody
    is asked when `offline`.

    Exits with 3 when a check finds the lock stale. Entries of other references are kept.
    """
    known = read_lock(file) if file.exists() or not refs else {}
    index = load_index(layout.index_file)
    fresh = {ref: _resolved(layout, index, ref, offline=offline) for ref in (refs or known)}
    # A commit alone is no change: the index moves on with every model.
    changed = [ref for ref, entry in fresh.items() if ref not in known or known[ref].cid != entry.cid]
    if not check and (changed or not file.exists()):
        kept = {ref: entry for ref, entry in known.items() if ref not in changed}
        write_lock(file, {**fresh, **kept})
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "lock",
                "file": str(file),
                "stale": bool(changed) if check else False,
                "changed": changed,
                "models": [asdict(entry) | {"cid": str(entry.cid)} for entry in fresh.values()],
            }
        )
    else:
        for ref in changed:
            before = f"{known[ref].version} -> " if ref in known else ""
            out.say(f"{ref}: {before}{fresh[ref].version}")
        out.result(f"{file!s} is up to date" if not changed else _changed(file, check=check))
    return ExitCode.PENDING if check and changed else ExitCode.OK


def _changed(file: Path, *, check: bool) -> str:
    return f"{file} is stale; `reconcile lock` renews it" if check else f"{file} written"


def _resolved(layout: Layout, index: Index, ref: str, *, offline: bool) -> LockEntry:
    wanted = parse_ref(ref)
    if wanted.cid is not None:
        raise UsageError(f"{ref!r} is a CID, which needs no lock", hint="fetch it as it is")
    version = resolve(index, wanted).version
    assert version is not None and version.cid is not None  # noqa: S101, PT018  a reference to a model
    records = records_directory(layout.index_file)
    if layout.origin is not None and not offline:
        try:
            fetch_record(layout.origin.place, layout.origin.commit, records, version)
        except PeerError as error:
            out.warn(
                f"the record of {version.ref} could not be read, so its size is not locked: {error.message}"
            )
    record = load_record(records, version.model, version.version)
    return LockEntry(
        requested=ref,
        model=version.model,
        version=version.version,
        cid=version.cid,
        size=record.size if record else None,
        dirhash=record.dirhash if record else None,
        commit=_commit(layout),
    )


def _commit(layout: Layout) -> str | None:
    """The commit of the index. One from elsewhere has nothing to do with a repository around its copy."""
    if layout.origin is not None:
        return layout.origin.commit
    return head_without_git(layout.index_file.parent.resolve())
