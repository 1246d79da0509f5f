"""The check of all records against the index, and which file to fix when the two name different CIDs.

What HEAD has decides: the file that agrees with it is right. Without such evidence the index is right, since
people review it; a record only repeats what publishing found.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.errors import InvalidIndexError, UserError, Where
from reconciler.git.file_history import FileHistory
from reconciler.index import guarded_yaml
from reconciler.index.load import parse_index
from reconciler.index.model import Index, Record, Version
from reconciler.index.records import (
    MAX_RECORD_BYTES,
    load_record,
    parse_record_of,
    record_path,
    records_directory,
)


def check_records(index: Index, *, with_contents: bool = False) -> dict[str, Record]:
    """Return the record of each version of `index` that has one, by `model@version`.

    Every record is read and checked each time (30 ms for 1000): a file can change and keep its size and its
    times. The lists of files in them are read only with `with_contents`. Raises InvalidIndexError for a
    record that is invalid or has another CID than the index.
    """
    directory = records_directory(index.file)
    found = {}
    for version in index.versions():
        record = load_record(directory, version.model, version.version, with_contents=with_contents)
        if record is None:
            continue
        if version.cid not in (None, record.cid):
            path = record_path(directory, version.model, version.version)
            raise _contradiction(index.file, version, record, path)
        found[version.ref] = record
    return found


def _contradiction(
    index_file: Path, version: Version, record: Record, record_file: Path
) -> InvalidIndexError:
    """Return the error at the one file to fix; its hint says how."""
    message = f"{version.ref} is {version.cid} in the index and {record.cid} in its record"
    in_index = _committed_cid(index_file, version)
    in_record = committed_record_cid(record_file, version)
    undo = f"undo the change of {str(index_file)!r}: a released CID is immutable"
    if in_index == record.cid:
        return InvalidIndexError(message, hint=undo, where=version.where)
    if in_index is None and in_record == record.cid:
        return InvalidIndexError(message, hint=f"{undo}; its record is committed", where=version.where)
    restore = "restore it: git checkout HEAD -- FILE"
    delete = "if the CID in the index is right, delete this file: a run writes it again when it needs it"
    hint = restore if in_record is not None and in_record == version.cid else delete
    return InvalidIndexError(message, hint=hint, where=Where(str(record_file)))


def committed_record_cid(record_file: Path, version: Version) -> Cid | None:
    """Return the CID in the record of `version` that HEAD has; None when it has none that can be read."""
    data = _committed(record_file, MAX_RECORD_BYTES)
    try:
        record = None if data is None else parse_record_of(version.model, version.version, data, "HEAD")
    except InvalidIndexError:
        return None
    return None if record is None else record.cid


def _committed_cid(index_file: Path, version: Version) -> Cid | None:
    data = _committed(index_file, guarded_yaml.MAX_BYTES)
    try:
        index = None if data is None else parse_index(guarded_yaml.decode(data, "HEAD"), index_file)
    except InvalidIndexError:
        return None
    model = index.models.get(version.model) if index is not None else None
    found = model.versions.get(version.version) if model is not None else None
    return None if found is None else found.cid


def _committed(file: Path, limit: int) -> bytes | None:
    """Return the content of `file` in HEAD; None when HEAD has none, or git cannot tell."""
    try:
        history = FileHistory.open(file)
        oid = None if history is None or history.head() is None else history.blob("HEAD")
        return None if history is None or oid is None else history.read(oid, limit)
    except UserError:
        return None
