"""Whether a pull request concerns the model weights at all: no others get a comment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from reconciler.cli.action.event import Event
from reconciler.errors import ReconcilerError
from reconciler.forges.local_repository import LocalRepository
from reconciler.index.layout import Layout
from reconciler.index.model import Index
from reconciler.index.recorded import records_directory


def concerns(event: Event, layout: Layout, index: Index) -> bool:
    """Whether the pull request changes the index, the targets, a record, or a version's files.

    Read from the clone at hand. Where that does not say (a shallow one), any pull request might.
    """
    try:
        repository = LocalRepository.open(layout.root)
        changed = _changed(repository, event)
    except ReconcilerError:
        return True
    if changed is None:
        return True
    watched = frozenset(_watched(layout, index, repository.prefix))
    return any(_is_below(path, watched) for path in changed)


def _changed(repository: LocalRepository, event: Event) -> frozenset[str] | None:
    """The paths that the pull request changes, or None when the commits for it are not here."""
    head = repository.commit("HEAD")
    if len(head.parents) == 2:  # what GitHub checks out for a pull request: its merge into the base
        return repository.changed_paths(head.parents[0], head.sha)
    fork = repository.fork_point(event.base, head.sha) if event.base else None
    return None if fork is None else repository.changed_paths(fork, head.sha)


def _watched(layout: Layout, index: Index, prefix: PurePosixPath) -> Iterator[str]:
    """Files and folders that matter, as git writes paths; those outside of the repository left out."""
    sources = [layout.source_root / version.path for version in index.versions() if version.path]
    root = layout.root.resolve()
    for path in (
        layout.index_file,
        layout.targets_file,
        records_directory(layout.index_file),
        *dict.fromkeys(sources),
    ):
        found = _below(root, path)
        if found is not None:
            yield (prefix / found).as_posix()


def _below(root: Path, path: Path) -> PurePosixPath | None:
    for absolute in (Path(os.path.normpath(path.absolute())), path.resolve()):
        if absolute.is_relative_to(root):
            return PurePosixPath(absolute.relative_to(root).as_posix())
    return None


def _is_below(path: str, watched: frozenset[str]) -> bool:
    return path in watched or any(str(above) in watched for above in PurePosixPath(path).parents)
