"""A proposal as a commit on a branch of the local repository, for `--propose branch`.

The work tree, the index, HEAD and every other branch are not changed, hooks do not run, and the branch moves
by compare-and-swap. A bare repository, a linked work tree, a detached HEAD and a dirty work tree are
supported. Raises UserError with a hint when there is no repository, no commit or no identity, and when the
branch is checked out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import ReconcilerError, UserError
from reconciler.forges.commits import Commit, describe_foreign, is_current, sign
from reconciler.forges.interface import (
    BranchEdit,
    BranchOutcome,
    BranchResult,
    Composed,
    Names,
    check_files,
)
from reconciler.forges.local_repository import MAX_COMMITS, CommitIdentity, LocalRepository, RefMovedError

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The files of a commit of a local repository. Implements `CommitFiles`."""

    repository: LocalRepository
    commit: str
    changed: frozenset[str] = frozenset()

    def read(self, path: str) -> bytes | None:
        """As `CommitFiles.read`."""
        return self.repository.read(self.commit, path)


def commit_to_branch(
    repo_root: Path,
    edit: BranchEdit,
    branch: str,
    base: str = "HEAD",
    *,
    identity: CommitIdentity | None = None,
    adds: bool = True,
) -> BranchResult:
    """Make `branch` one commit of ours on top of `base` with what `edit` composes.

    Paths are relative to `repo_root`. With `adds`, the branch is the open proposal to which the edit is
    added. The outcome is UNCHANGED when the branch is one commit with the same tree and message on the same
    base; EMPTY when the base has the same tree (no branch is created or changed); TAKEN or HUMAN_EDITED, with
    nothing changed, when the branch has the proposal of another index, or a commit that is not ours. Raises
    UsageError for an invalid path or branch name, UserError as described for this module, and ReconcilerError
    when git fails.
    """
    repository = LocalRepository.open(repo_root)
    repository.check_branch_name(branch)
    parent = repository.commit(base)
    for _ in range(_ATTEMPTS):
        try:
            return _commit(repository, branch, parent, edit, identity, adds=adds)
        except RefMovedError:
            continue
    raise ReconcilerError(
        f"the branch {branch!r} changed during every attempt",
        hint="another run is changing it: run again when it has ended",
    )


def locate_branch(
    repo_root: Path, names: Names, owns: Callable[[frozenset[str]], bool], base: str = "HEAD"
) -> str:
    """Return which of `names` to use. Raises UserError as `is_committed` does."""
    repository = LocalRepository.open(repo_root)
    parent = repository.commit(base)
    return choose_branch(repository, names, parent.sha, owns)


def choose_branch(
    repository: LocalRepository, names: Names, parent: str, owns: Callable[[frozenset[str]], bool]
) -> str:
    """Return which of `names` to use for a proposal on top of commit `parent`."""

    def is_ours(branch: str) -> bool | None:
        tip = repository.tip(branch)
        if tip is None:
            return None
        changed = _changed(repository, parent, tip)
        return not changed or owns(changed)

    return names.choose(is_ours)


def is_committed(repo_root: Path, files: Mapping[str, bytes], base: str = "HEAD") -> bool:
    """Whether commit `base` has `files` (paths below `repo_root` to contents).

    Raises UserError when there is no repository or no commit in it.
    """
    repository = LocalRepository.open(repo_root)
    commit = repository.commit(base)
    return repository.tree_with(commit.sha, files) == commit.tree


def is_proposed(repo_root: Path, edit: BranchEdit, branch: str, base: str = "HEAD") -> bool:
    """Whether `commit_to_branch` would return UNCHANGED. Raises UserError as `is_committed` does."""
    repository = LocalRepository.open(repo_root)
    parent = repository.commit(base)
    old = repository.tip(branch)
    if old is None:
        return False
    beyond = list(repository.commits_beyond(parent.sha, old))
    if _describe_foreign(beyond):
        return False
    composed = _compose(repository, edit, parent, old, adds=True)
    return composed is not None and _is_single_commit(
        beyond, repository.tree_with(parent.sha, composed.files), parent, composed, edit
    )


def _changed(repository: LocalRepository, parent: str, tip: str) -> frozenset[str]:
    """Return the paths that a branch changes since it left its base."""
    fork = repository.fork_point(parent, tip)
    return repository.changed_paths(fork, tip) if fork is not None else frozenset()


def _compose(
    repository: LocalRepository, edit: BranchEdit, parent: Commit, old: str | None, *, adds: bool
) -> Composed | None:
    """Return the content of the commit; None when the branch has the proposal of another index."""
    proposed = None
    if old is not None:
        changed = _changed(repository, parent.sha, old)
        if changed and not edit.owns(changed):
            return None
        proposed = LocalFiles(repository, old, changed) if adds else None
    return edit.compose(LocalFiles(repository, parent.sha), proposed)


def _describe_foreign(beyond: Sequence[Commit]) -> str:
    return describe_foreign(beyond, complete=len(beyond) < MAX_COMMITS)


def _is_single_commit(
    beyond: Sequence[Commit], tree: str, parent: Commit, composed: Composed, edit: BranchEdit
) -> bool:
    """Whether the commits of a branch are a single one, the one that we would make."""
    return len(beyond) == 1 and is_current(
        beyond[0], tree, parent.sha, composed.message, sign_off=edit.sign_off
    )


def _commit(
    repository: LocalRepository,
    branch: str,
    parent: Commit,
    edit: BranchEdit,
    identity: CommitIdentity | None,
    *,
    adds: bool,
) -> BranchResult:
    old = repository.tip(branch)
    beyond = [] if old is None else list(repository.commits_beyond(parent.sha, old))
    others = _describe_foreign(beyond)
    composed = _compose(repository, edit, parent, old, adds=adds and not others)
    if composed is None and old is not None:
        detail = f"the branch {branch!r} has the proposal of another index"
        return BranchResult(branch, old, BranchOutcome.TAKEN, detail=detail)
    assert composed is not None  # noqa: S101 - only a branch that exists is taken
    check_files(composed.files)
    tree = repository.tree_with(parent.sha, composed.files)
    if tree == parent.tree:
        detail = "the base has these files already"
        return BranchResult(branch, parent.sha, BranchOutcome.EMPTY, detail=detail)
    if old is not None and others:
        return BranchResult(branch, old, BranchOutcome.HUMAN_EDITED, detail=f"{branch!r}: {others}")
    if old is not None and _is_single_commit(beyond, tree, parent, composed, edit):
        return BranchResult(branch, old, BranchOutcome.UNCHANGED)
    place = repository.where_checked_out(branch)
    if place is not None:
        raise UserError(
            f"the branch {branch!r} is checked out in {place!r}",
            hint="switch that work tree to another branch: git switch -",
        )
    signed_off_by = repository.author(identity) if edit.sign_off else None
    message = sign(composed.message, tree, signed_off_by)
    commit_id = repository.commit_tree(tree, parent.sha, message, identity)
    repository.move_branch(branch, commit_id, old, "reconcile: propose resolved CIDs")
    return BranchResult(branch, commit_id, BranchOutcome.CREATED if old is None else BranchOutcome.UPDATED)
