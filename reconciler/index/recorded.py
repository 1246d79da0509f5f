"""The versions that have a record, and the check that no record contradicts the index."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from reconciler.content.car import ShardedCar
from reconciler.index.model import Index, Version
from reconciler.index.records import check_record, load_record
from reconciler.index.schemas import is_stamped, write_stamp

_STAMP = "record"


def records_directory(index_file: Path) -> Path:
    """Return the directory with the records of an index, beside it."""
    return index_file.with_name("records")


def check_records(index: Index, stamps: Path | None) -> frozenset[str]:
    """Return the versions of `index` (as `model@version`) that have a record.

    Raises InvalidIndexError for a record that is invalid or has another CID. With `stamps`, records that were
    valid before and are unchanged since are not read again.
    """
    directory = records_directory(index.file)
    there = _listing(directory)
    refs = frozenset(version.ref for version in index.versions() if version.ref in there)
    key = hashlib.sha256(repr((index.digest, sorted(there.items()))).encode()).hexdigest()
    if stamps is not None and is_stamped(stamps, _STAMP, key):
        return refs
    for version in index.versions():
        if version.ref in refs:
            record = load_record(directory, version.model, version.version)
            if record is not None:
                check_record(version, record)
    if stamps is not None:
        write_stamp(stamps, _STAMP, key)
    return refs


def recorded_pieces(index: Index, versions: Iterable[Version]) -> dict[str, tuple[ShardedCar, ...]]:
    """Return the pieces in the records of `versions`, by `model@version`. Raises InvalidIndexError."""
    directory = records_directory(index.file)
    found = {v.ref: load_record(directory, v.model, v.version) for v in versions}
    return {ref: record.pieces for ref, record in found.items() if record is not None}


def _listing(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Return each record below `directory` as `model@version`, with size, mtime and inode of its file."""
    found: dict[str, tuple[int, int, int]] = {}
    try:
        models = [entry for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return found
    for model in models:
        for entry in os.scandir(model.path):
            if entry.name.endswith(".json") and not entry.name.startswith("."):
                seen = entry.stat()
                ref = f"{model.name}@{entry.name.removesuffix('.json')}"
                found[ref] = (seen.st_size, seen.st_mtime_ns, seen.st_ino)
    return found
