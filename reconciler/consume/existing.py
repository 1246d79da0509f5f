"""A destination that has content already: what may be replaced, and what can be used again.

A directory may be replaced when nothing in it would be lost: it is a released version as a whole, or each of
its files is, byte for byte, the file at that path in the version to be fetched or in a released one. Anything
else is a local change, which is named and never overwritten.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.consume.leaf_check import check_leaves
from reconciler.consume.selection import SelectedFiles
from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.identify import identify
from reconciler.content.scan import FileStamp, stamp_of
from reconciler.content.walk import DagMap, FileNode, NodeKind, leaf_bytes, walk
from reconciler.errors import ReconcilerError, UsageError
from reconciler.progress import Progress

_MOST_TREES = 8  # released versions whose trees are read to tell what a directory is
_NAMED = 3  # local changes in a message


@dataclass(frozen=True, slots=True)
class DirectorySurvey:
    """The regular files of a directory with their stamps; `others` are neither files nor directories."""

    files: Mapping[str, FileStamp]
    others: frozenset[str]


def survey_directory(directory: Path) -> DirectorySurvey:
    """List the files below `directory` without following links. Raises OSError."""
    files: dict[str, FileStamp] = {}
    others: set[str] = set()
    for parent, subdirectories, names in os.walk(directory, onerror=_raise):
        for name in (*subdirectories, *names):
            path = Path(parent, name)
            status = path.lstat()
            relative = path.relative_to(directory).as_posix()
            if stat.S_ISREG(status.st_mode):
                files[relative] = stamp_of(status)
            elif not stat.S_ISDIR(status.st_mode):
                others.add(relative)
    return DirectorySurvey(files, frozenset(others))


def is_same_but_links(one: DirectorySurvey, other: DirectorySurvey) -> bool:
    """Return whether two surveys differ at most in ctimes, which a new hard link changes."""

    def stamps(survey: DirectorySurvey) -> dict[str, FileStamp]:
        return {path: replace(stamp, ctime_ns=0) for path, stamp in survey.files.items()}

    return one.others == other.others and stamps(one) == stamps(other)


@dataclass(frozen=True, slots=True)
class Released:
    """What is known of released versions: their roots, the likely ones first, and how to read a tree.

    `read_tree` raises ReconcilerError when no source has it.
    """

    roots: Sequence[Cid] = ()
    read_tree: Callable[[Cid], DagMap] | None = None


NOTHING_RELEASED = Released()


@dataclass(frozen=True, slots=True)
class Replaceable:
    """A directory that may be replaced.

    `reusable` are the numbers of selected files that it has already, `partial` those of which it has a
    beginning.
    """

    survey: DirectorySurvey
    reusable: Collection[int]
    partial: Collection[int] = ()


def examine_directory(
    directory: Path,
    selected: SelectedFiles,
    released: Released,
    read_block: Callable[[Cid], bytes],
    progress: Progress,
    *,
    cids_of: Callable[[DirectorySurvey], Mapping[str, Cid]] | None = None,
) -> Replaceable:
    """Read the files in `directory`, and return what can be used again.

    `read_block` reads verified blocks of the wanted version. `cids_of` returns the CIDs of the files by path
    where a version does not have those of its files in the directory. Raises UsageError, with their names,
    when there are local changes.
    """
    survey = survey_directory(directory)
    partial: set[str] = set()
    if not survey.others:
        local = _identify(directory, survey, progress) if cids_of is None else cids_of(survey)
        new = {node.path: node for node in selected.map.nodes if node.kind is NodeKind.FILE}
        numbers = {node.path: number for number, node in enumerate(selected.files)}
        known = {path for path, cid in local.items() if path in new and cid == new[path].cid}
        for path in survey.files.keys() & new.keys() - known:
            if survey.files[path].size == new[path].size and _has_leaves(
                selected.map, new[path], directory / path
            ):
                known.add(path)
        reusable = frozenset(numbers[path] for path in known if path in numbers)
        if _is_released(local, survey, known, released):
            return Replaceable(survey, reusable)
        unknown = survey.files.keys() - known
        partial = {
            path
            for path in unknown & numbers.keys()
            if _is_beginning(selected.map, new[path], directory / path, survey.files[path].size, read_block)
        }
        changed = _changes(directory, local, unknown - partial, released)
    else:
        changed = sorted(survey.others)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        listed = ", ".join(map(repr, changed[:_NAMED]))
        raise UsageError(
            f"destination {str(directory)!r} is not empty: {listed}{more} would be lost",
            hint="they are not part of a released version: move them elsewhere, or fetch to a new directory",
        )
    return Replaceable(survey, reusable, frozenset(numbers[path] for path in partial))


_ROOT = ""  # the path of the directory itself


def _identify(directory: Path, survey: DirectorySurvey, progress: Progress) -> Mapping[str, Cid]:
    """Return the CIDs of all files by our profile, and that of the directory when it has nothing else."""
    try:
        dag = identify(bare_bundle(directory, include_hidden=True), cache=None, progress=progress)
    except ReconcilerError:  # such as a name that a version cannot have
        return {}
    layout = dag.layout

    def read(cid: Cid) -> bytes:
        position = layout.find(cid)
        assert position is not None  # noqa: S101  the walk only asks for blocks of the layout
        return dag.read(position)

    found = {node.path: node.cid for node in walk(layout.root, read).nodes if node.kind is NodeKind.FILE}
    return found | ({_ROOT: layout.root} if found.keys() == survey.files.keys() else {})


def _is_released(
    local: Mapping[str, Cid], survey: DirectorySurvey, known: Collection[str], released: Released
) -> bool:
    return len(known) == len(survey.files) or local.get(_ROOT) in released.roots


def _changes(
    directory: Path, local: Mapping[str, Cid], unknown: Iterable[str], released: Released
) -> list[str]:
    """Return those of the `unknown` paths that no released version has with these bytes.

    Where the trees of several versions can be read, the one that leaves the fewest decides.
    """
    best = sorted(unknown)
    if released.read_tree is None or not best:
        return best
    left = set(best)
    for root in released.roots[:_MOST_TREES]:
        try:
            tree = released.read_tree(root)
        except ReconcilerError:
            continue
        nodes = {node.path: node for node in tree.nodes if node.kind is NodeKind.FILE}
        left -= {
            path
            for path in left
            if path in nodes
            and (local.get(path) == nodes[path].cid or _has_leaves(tree, nodes[path], directory / path))
        }
        if not left:
            break
    return sorted(left)


def _has_leaves(tree: DagMap, node: FileNode, path: Path) -> bool:
    """Return whether the file at `path` has the bytes of `node`, however it was split into blocks."""
    if path.stat().st_size != node.size:
        return False
    return all(good for _, good in check_leaves(tree, node, path))


def _is_beginning(
    tree: DagMap, node: FileNode, path: Path, size: int, read_block: Callable[[Cid], bytes]
) -> bool:
    """Return whether the file at `path`, of `size` bytes, is a shorter beginning of `node`."""
    if size >= node.size:
        return False
    for leaf, good in check_leaves(tree, node, path):
        if leaf.offset + leaf.size > size:
            if leaf.offset == size:
                return True
            block = leaf_bytes(tree.layout, leaf.position, read_block(tree.layout.cid(leaf.position)))
            with path.open("rb") as file:
                file.seek(leaf.offset)
                return block.startswith(file.read(leaf.size))
        if not good:
            return False
    return False


def _raise(error: OSError) -> None:
    raise error
