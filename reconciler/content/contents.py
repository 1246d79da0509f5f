"""The files of a bundle as a list, and the differences between two lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from reconciler.content.cid import Cid
from reconciler.content.walk import DagMap, NodeKind


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its path, its size in bytes, and its CID."""

    path: str
    size: int
    cid: Cid


@dataclass(frozen=True, slots=True)
class BundleContents:
    """The files of a bundle, generated ones included, and the directories without an entry."""

    files: tuple[FileEntry, ...]
    empty_directories: tuple[str, ...] = ()


class ContentChange(StrEnum):
    """What is different about a path, as seen from the published bundle."""

    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class ContentDifference:
    """One path that differs; `published` and `found` are None where it does not exist or is a directory."""

    path: str
    change: ContentChange
    is_directory: bool = False
    published: FileEntry | None = None
    found: FileEntry | None = None


def contents_of_map(dag_map: DagMap) -> BundleContents:
    """Return the contents of a bundle from the map of its DAG."""
    files = (
        FileEntry(node.path, node.size, node.cid) for node in dag_map.nodes if node.kind is NodeKind.FILE
    )
    directories = [node.path for node in dag_map.nodes if node.kind is NodeKind.DIRECTORY]
    return make_contents(files, directories)


def make_contents(files: Iterable[FileEntry], directories: Iterable[str]) -> BundleContents:
    """Return the contents with these files and directories, in order."""
    files, directories = tuple(files), list(directories)
    parents = {path.rpartition("/")[0] for path in (*(file.path for file in files), *directories)}
    return BundleContents(
        tuple(sorted(files, key=lambda file: file.path.encode())),
        tuple(sorted((path for path in directories if path not in parents), key=str.encode)),
    )


def compare_contents(published: BundleContents, found: BundleContents) -> tuple[ContentDifference, ...]:
    """Return what differs, sorted by path."""
    before, now = ({file.path: file for file in each.files} for each in (published, found))
    differences = [
        ContentDifference(path, _change(before, now, path), False, before.get(path), now.get(path))
        for path in before.keys() | now.keys()
        if path not in before or path not in now or before[path].cid != now[path].cid
    ]
    empty, empty_now = set(published.empty_directories), set(found.empty_directories)
    filled = _parents(before)
    filled_now = _parents(now)
    differences += [ContentDifference(p, ContentChange.GONE, True) for p in empty - empty_now - filled_now]
    differences += [ContentDifference(p, ContentChange.NEW, True) for p in empty_now - empty - filled]
    return tuple(sorted(differences, key=lambda each: each.path.encode()))


def _change(before: dict[str, FileEntry], now: dict[str, FileEntry], path: str) -> ContentChange:
    if path not in before:
        return ContentChange.NEW
    return ContentChange.CHANGED if path in now else ContentChange.GONE


def _parents(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return found
