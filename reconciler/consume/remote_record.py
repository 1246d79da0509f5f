"""The record of a version beside an index elsewhere: brought here when it is wanted, and kept for good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from reconciler.consume import git_index
from reconciler.index.model import Version
from reconciler.index.records import MAX_BYTES, check_record, record_of, record_path
from reconciler.index.replace_file import replace_file
from reconciler.net.client import HttpClient
from reconciler.net.outcomes import NotFound


def bring_record(place: str, commit: str | None, records: Path, version: Version) -> None:
    """Put the record of `version` into the directory `records`, where the index is that of `place`, read at
    `commit` if that is a git repository. Nothing happens where it is here already, or has none there, or the
    index has neither an address nor a repository.

    Raises Outcome when it cannot be asked for, InvalidIndex for a record that does not hold or is not of
    this version.
    """
    here = record_path(records, version.model, version.version)
    if here.exists():
        return
    path = PurePosixPath("records", version.model, here.name)
    try:
        data = _at_address(place, path) if commit is None else _in_git(place, commit, path)
    except NotFound:
        return
    if data is None:
        return
    check_record(version, record_of(data, f"{path} beside {place}", version.model, version.version))
    here.parent.mkdir(parents=True, exist_ok=True)
    replace_file(here, data, 0o644)


def _at_address(place: str, path: PurePosixPath) -> bytes | None:
    if not place.startswith(("https://", "http://")) or "?" in place:
        return None
    http = HttpClient(place.rpartition("/")[0], name=place)
    try:
        return http.request("GET", quote(str(path), safe="/+"), limit=MAX_BYTES, repeatable=True).body
    finally:
        http.close()


def _in_git(place: str, commit: str, path: PurePosixPath) -> bytes | None:
    index = git_index.parse_place(place)
    beside = PurePosixPath(index.path).parent / path
    found = git_index.read_file(replace(index, ref=commit, path=str(beside)), MAX_BYTES)
    return found.data if found else None
