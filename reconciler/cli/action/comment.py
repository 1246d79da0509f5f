"""The plan as one comment on the pull request, updated in place.

Only pull requests that concern the model weights get a comment. Where the token may not comment, an
annotation says so.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from reconciler.cli.action.inputs import Event, Inputs, StepCommand
from reconciler.cli.action.job import JobResult
from reconciler.errors import PeerError, ReconcilerError, UsageError
from reconciler.forges.local_repository import LocalRepository
from reconciler.git.repository import locate_repository
from reconciler.index.locations import RepositoryLayout
from reconciler.index.model import Index
from reconciler.index.records import records_directory
from reconciler.net.errors import AccessDeniedError
from reconciler.render.progress import Lines
from reconciler.render.workflow import Annotation, failure_comment, nothing_comment, plan_comment

_TITLE = "no comment"


def comment_on_plan(
    done: JobResult, inputs: Inputs, event: Event, environ: Mapping[str, str]
) -> list[Annotation]:
    """Create or update the comment with the plan; return annotations that explain a failure to do so.

    A pull request that does not concern the weights gets no comment. A forge that refuses or is down raises
    no error.
    """
    has_content = bool(done.plan.changes or done.plan.refusals)
    if has_content and concerns_weights(event, inputs.scope.layout, done.index):
        return _upsert(plan_comment(done.plan, event.page), inputs, event, environ, create=True)
    return _upsert(nothing_comment(), inputs, event, environ, create=False)


def comment_on_failure(
    error: ReconcilerError, inputs: Inputs, event: Event, environ: Mapping[str, str]
) -> list[Annotation]:
    """Update an existing comment with the reason why there is no plan; never create a comment."""
    body = failure_comment(str(error), error.hint or "", event.page)
    return _upsert(body, inputs, event, environ, create=False)


def _upsert(
    body: str, inputs: Inputs, event: Event, environ: Mapping[str, str], *, create: bool
) -> list[Annotation]:
    from reconciler.forges.open import open_forge_for_comments

    if not inputs.comment or event.pull_request is None or inputs.command is not StepCommand.PLAN:
        return []
    try:
        forge = open_forge_for_comments(environ, Lines(sys.stderr))
        try:
            forge.upsert_comment(event.pull_request, _marker(inputs), body, create=create)
        finally:
            forge.close()
    except (PeerError, UsageError) as error:
        if not create and isinstance(error, (AccessDeniedError, UsageError)):
            return []  # a token that may not comment has left no comment to change
        advice = error.hint or "a token of a pull request from a fork may only read"
        return [Annotation("notice", _TITLE, f"the plan is in the step summary only: {error}\n{advice}")]
    return []


def _marker(inputs: Inputs) -> str:
    """Return the marker of the comment: one for each index and selection, so that two steps have two."""
    scope, layout = inputs.scope, inputs.scope.layout
    places = [_in_repository(path) for path in (layout.index_file, layout.targets_file)]
    parts = (*places, scope.only, scope.exclude)
    return f"plan/{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"


def _in_repository(path: Path) -> str:
    """Return the path in its repository, which does not depend on the working directory."""
    try:
        found = locate_repository(path.parent)
    except ReconcilerError:
        found = None
    return path.as_posix() if found is None else str(found.prefix / path.name)


def concerns_weights(event: Event, layout: RepositoryLayout, index: Index) -> bool:
    """Return whether the pull request changes the index, the targets, a record, or a version's files.

    The local clone answers; when it cannot, as a shallow clone, any pull request may concern the weights.
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
    """Return the paths that the pull request changes, or None when the clone lacks the commits."""
    head = repository.commit("HEAD")
    if len(head.parents) == 2:  # GitHub checks out the merge of the pull request into its base
        return repository.changed_paths(head.parents[0], head.sha)
    fork = repository.fork_point(event.base, head.sha) if event.base else None
    return None if fork is None else repository.changed_paths(fork, head.sha)


def _watched(layout: RepositoryLayout, index: Index, prefix: PurePosixPath) -> Iterator[str]:
    """Yield the watched files and directories in the repository, as git writes paths."""
    sources = [layout.source_root / version.path for version in index.versions() if version.path]
    directory = layout.root.resolve()
    top = Path(*directory.parts[: len(directory.parts) - len(prefix.parts)])
    for path in (
        layout.index_file,
        layout.targets_file,
        records_directory(layout.index_file),
        *dict.fromkeys(sources),
    ):
        found = _below(top, path)
        if found is not None:
            yield found.as_posix()


def _below(root: Path, path: Path) -> PurePosixPath | None:
    for absolute in (Path(os.path.normpath(path.absolute())), path.resolve()):
        if absolute.is_relative_to(root):
            return PurePosixPath(absolute.relative_to(root).as_posix())
    return None


def _is_below(path: str, watched: frozenset[str]) -> bool:
    return path in watched or any(str(above) in watched for above in PurePosixPath(path).parents)
