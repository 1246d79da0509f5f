"""What of a directory is not as it was released: by its leaves where the tree is known, else by its sums."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reconciler.consume.staging import leaf_states
from reconciler.consume.wanted import select
from reconciler.content import checksums
from reconciler.content.scan import scan
from reconciler.content.walk import DagMap
from reconciler.progress import Progress

_PIECE = 1 << 20


class DifferenceKind(StrEnum):
    """How a file differs."""

    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One file that is not as released. `offsets` are where its changed leaves begin, in bytes; none where
    only its sum is known, or its length differs.
    """

    path: str
    kind: DifferenceKind
    offsets: tuple[int, ...] = ()


def by_leaves(dag_map: DagMap, directory: Path, progress: Progress) -> tuple[Difference, ...]:
    """Compare every leaf of every file. Raises BundleError for what cannot be read or is no regular file."""
    nodes = {node.path: node for node in select(dag_map).files}
    listing = scan(directory, include_hidden=True)
    found = {file.path: file.stamp.size for file in listing.files}
    differences = list(_absent(set(nodes), set(found)))
    with progress.task(f"comparing {directory.name}", listing.size) as task:
        for path in nodes.keys() & found.keys():
            if nodes[path].size != found[path]:
                differences.append(Difference(path, DifferenceKind.CHANGED))
                continue
            offsets = []
            for leaf, good in leaf_states(dag_map, nodes[path], directory / path):
                task.advance(leaf.size)
                if not good:
                    offsets.append(leaf.offset)
            if offsets:
                differences.append(Difference(path, DifferenceKind.CHANGED, tuple(offsets)))
    return _sorted(differences)


def by_sums(sums: bytes, directory: Path, progress: Progress) -> tuple[Difference, ...]:
    """Compare the SHA-256 of every file with a SHA256SUMS that was proven. Raises BundleError."""
    listed = {entry.path: entry.digest for entry in checksums.parse(sums)}
    listing = scan(directory, include_hidden=True)
    found = {file.path: directory / file.path for file in listing.files if file.path != checksums.NAME}
    with progress.task(f"comparing {directory.name}", listing.size) as task:
        changed = []
        for path in sorted(listed.keys() & found.keys()):
            digest = hashlib.sha256()
            with found[path].open("rb") as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
                    task.advance(len(piece))
            if digest.digest() != listed[path]:
                changed.append(Difference(path, DifferenceKind.CHANGED))
    return _sorted([*changed, *_absent(set(listed), set(found))])


def _absent(expected: set[str], found: set[str]) -> Iterator[Difference]:
    yield from (Difference(path, DifferenceKind.MISSING) for path in expected - found)
    yield from (Difference(path, DifferenceKind.EXTRA) for path in found - expected)


def _sorted(differences: list[Difference]) -> tuple[Difference, ...]:
    return tuple(sorted(differences, key=lambda each: each.path.encode()))
