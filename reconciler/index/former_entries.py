"""The entries that versions had in earlier commits of an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.errors import InvalidIndexError, UserError
from reconciler.git.file_history import FileHistory
from reconciler.index import guarded_yaml
from reconciler.index.history import MAX_COMMITS
from reconciler.index.load import parse_index
from reconciler.index.model import Version

_MAX_READ = 20  # contents of the index that have the CID


@dataclass(frozen=True, slots=True)
class FormerEntry:
    """A version with some CID as the index had it, from `commit` on."""

    version: Version
    commit: str


def former_entries(index_file: Path, cid: Cid) -> Iterator[FormerEntry]:
    """Yield the versions that had `cid` in the history of HEAD, oldest first; nothing without a history.

    Only the first contents of the index that have the CID are read.
    """
    try:
        history = FileHistory.open(index_file)
        if history is None or history.head() is None:
            return
        read = 0
        for commit, oid in history.introductions(MAX_COMMITS):
            data = history.read(oid, guarded_yaml.MAX_BYTES)
            if data is None or str(cid).encode() not in data:
                continue
            read += 1
            try:
                index = parse_index(guarded_yaml.decode(data, oid), index_file, name=oid)
            except InvalidIndexError:
                continue
            yield from (FormerEntry(each, commit) for each in index.versions() if each.cid == cid)
            if read == _MAX_READ:
                return
    except UserError:
        return  # git is missing, or does not trust the repository
