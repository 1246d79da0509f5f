"""The comparison of a directory with a released version.

`compare_directory` compares leaf by leaf where a store on this machine has the version's tree, otherwise by
the SHA-256 sums of the directory's own SHA256SUMS, when the version's record proves that list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reconciler.consume.fetch import read_tree
from reconciler.consume.leaf_check import check_leaves
from reconciler.consume.local_sources import target_source
from reconciler.consume.selection import select_files
from reconciler.consume.sources import SourcePool, TrackedSource
from reconciler.content import checksums, manifest, workers
from reconciler.content.cid import Cid
from reconciler.content.scan import scan
from reconciler.content.walk import DagMap
from reconciler.errors import DataError, ReconcilerError
from reconciler.index.model import Index, Version
from reconciler.index.records import load_record
from reconciler.index.resolve import parse_ref, resolve
from reconciler.progress import Progress
from reconciler.targets.interface import Target

_READ_SIZE = 1 << 20


class DifferenceKind(StrEnum):
    """The difference between a file and the released one."""

    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"


class ComparedBy(StrEnum):
    """The basis of a comparison: the blocks of the version's tree, or the sums in its SHA256SUMS."""

    BLOCKS = "blocks"
    SUMS = "sums"


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that differs from the released one.

    `offsets` are the positions of its changed leaves, in bytes; empty when only sums were compared, or when
    its length differs.
    """

    path: str
    kind: DifferenceKind
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DirectoryComparison:
    """The files of a directory that differ from a released version, sorted by path."""

    compared_by: ComparedBy
    differences: tuple[Difference, ...]


# --- which version a directory is


def version_at(index: Index, source_root: Path, directory: Path) -> Version | None:
    """Return the version whose own directory (its `path` below `source_root`) is `directory`, if any."""
    resolved = directory.resolve()
    for version in index.versions():
        if version.path is not None and (source_root / version.path).resolve() == resolved:
            return version
    return None


def version_with_root(index: Index, root: Cid) -> Version | None:
    """Return the first version in the index whose CID is `root`, if any."""
    return next((version for version in index.versions() if version.cid == root), None)


def intended_version(index: Index, directory: Path, ref: str | None) -> Version | None:
    """Return the version that `ref` names, or, without a `ref`, the one that the manifest.json in `directory`
    names; None when there is neither. Raises UsageError for a `ref` that the index does not have.
    """
    if ref is not None:
        return resolve(index, parse_ref(ref)).version
    try:
        with (directory / manifest.NAME).open("rb") as file:
            named = manifest.parse(file.read(manifest.MAX_SIZE))
    except OSError:
        return None
    model = index.models.get(named.model) if named else None
    return model.versions.get(str(named.version)) if named and model else None


# --- comparison


def compare_directory(
    directory: Path, version: Version, tree: DagMap | None, records: Path, progress: Progress
) -> DirectoryComparison:
    """Return how `directory` differs from `version`.

    `tree` is the version's tree where one is known, see `tree_from_stores`; `records` is the directory of
    records beside the index. Raises BundleError for files that cannot be read or are not regular, and
    DataError when there is no tree and the SHA256SUMS in `directory` is not the released one.
    """
    if tree is not None:
        return DirectoryComparison(ComparedBy.BLOCKS, _compare_leaves(tree, directory, progress))
    sums = _released_sums(directory, version, records)
    return DirectoryComparison(ComparedBy.SUMS, _compare_sums(sums, directory, progress))


def tree_from_stores(targets: Iterable[Target], root: Cid) -> DagMap | None:
    """Return the tree of `root` from the first store among `targets` that has it; other targets, which would
    need the network, are not used. None when no store has it.
    """
    for target in targets:
        if target.kind != "store":
            continue
        try:
            source = target_source(target, root)
        except ReconcilerError:
            continue
        try:
            return read_tree(root, SourcePool([TrackedSource(source)]))
        except ReconcilerError:
            continue
        finally:
            source.close()
    return None


def _compare_leaves(tree: DagMap, directory: Path, progress: Progress) -> tuple[Difference, ...]:
    """Compare every leaf of every file."""
    nodes = {node.path: node for node in select_files(tree).files}
    listing = scan(directory, include_hidden=True)
    present = {file.path: file for file in listing.files}
    differences = list(_missing_and_extra(set(nodes), set(present)))
    with progress.task(f"comparing {directory.name}", listing.size) as task:
        for path in nodes.keys() & present.keys():
            if nodes[path].size != present[path].stamp.size:
                differences.append(Difference(path, DifferenceKind.CHANGED))
                continue
            offsets = []
            for leaf, good in check_leaves(tree, nodes[path], listing.locate(present[path])):
                task.advance(leaf.size)
                if not good:
                    offsets.append(leaf.offset)
            if offsets:
                differences.append(Difference(path, DifferenceKind.CHANGED, tuple(offsets)))
    return _sorted(differences)


def _compare_sums(sums: bytes, directory: Path, progress: Progress) -> tuple[Difference, ...]:
    """Compare the SHA-256 of every file with `sums`, a SHA256SUMS."""
    listing = scan(directory, include_hidden=True)
    found = {file.path: listing.locate(file) for file in listing.files if file.path != checksums.NAME}
    listed = {entry.path: entry.digest for entry in checksums.parse(sums).matched(found).entries}
    changed: list[Difference] = []

    def compare(path: str) -> None:
        digest = hashlib.sha256()
        with found[path].open("rb", buffering=0) as file:
            while data := file.read(_READ_SIZE):
                digest.update(data)
                task.advance(len(data))
        if digest.digest() != listed[path]:
            changed.append(Difference(path, DifferenceKind.CHANGED))

    with progress.task(f"comparing {directory.name}", listing.size) as task:
        workers.share(compare, sorted(listed.keys() & found.keys()), threads=workers.threads_for(directory))
    return _sorted([*changed, *_missing_and_extra(set(listed), set(found))])


def _released_sums(directory: Path, version: Version, records: Path) -> bytes:
    """Return the SHA256SUMS in `directory`. Raises DataError unless the record of `version` proves it."""
    record = load_record(records, version.model, version.version)
    try:
        with (directory / checksums.NAME).open("rb") as file:
            sums = file.read(checksums.MAX_SIZE)
    except OSError:
        sums = b""
    if record is None or hashlib.sha256(sums).hexdigest() != record.dirhash:
        raise DataError(
            f"{str(directory)!r} is not {version.ref}, and the differing files cannot be determined",
            hint="its SHA256SUMS is not the released one, and no store on this machine has the version",
        )
    return sums


def _missing_and_extra(expected: set[str], found: set[str]) -> Iterator[Difference]:
    yield from (Difference(path, DifferenceKind.MISSING) for path in expected - found)
    yield from (Difference(path, DifferenceKind.EXTRA) for path in found - expected)


def _sorted(differences: list[Difference]) -> tuple[Difference, ...]:
    return tuple(sorted(differences, key=lambda each: each.path.encode()))
