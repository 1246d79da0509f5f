"""A proposal as a commit on a branch of the local repository, for `--propose branch`.

The work tree, the index, HEAD and every other branch are not changed, hooks do not run, and the branch moves
by compare-and-swap. A bare repository, a linked work tree, a detached HEAD and a dirty work tree are
supported. Raises UserError with a hint when there is no repository, no commit or no identity, and when the
branch is checked out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.errors import ReconcilerError, UserError
from reconciler.forges.commits import Commit, describe_foreign, sign
from reconciler.forges.interface import BranchOutcome, BranchResult, check_files
from reconciler.forges.local_repository import MAX_COMMITS, CommitIdentity, LocalRepository, RefMovedError

_ATTEMPTS = 3


def commit_to_branch(
    repo_root: Path,
    files: Mapping[str, bytes],
    branch: str,
    message: str,
    base: str = "HEAD",
    *,
    identity: CommitIdentity | None = None,
) -> BranchResult:
    """Make `branch` one commit of ours on top of `base` that sets `files`.

    `files` maps paths below `repo_root` to contents. The outcome is UNCHANGED when the branch is one commit
    with the same tree on the same base; EMPTY when the base has the same tree (no branch is created or
    changed); HUMAN_EDITED, with nothing changed, when the branch has a commit that is not ours. Raises
    UsageError for an invalid path or branch name, UserError as described for this module, and ReconcilerError
    when git fails.
    """
    check_files(files)
    repository = LocalRepository.open(repo_root)
    repository.check_branch_name(branch)
    parent = repository.commit(base)
    tree = repository.tree_with(parent.sha, files)
    if tree == parent.tree:
        return BranchResult(
            branch, parent.sha, BranchOutcome.EMPTY, detail="the base has these files already"
        )
    for _ in range(_ATTEMPTS):
        try:
            return _commit(repository, branch, parent, tree, message, identity)
        except RefMovedError:
            continue
    raise ReconcilerError(
        f"the branch {branch!r} changed during every attempt",
        hint="another run is changing it: run again when it has ended",
    )


def is_committed(repo_root: Path, files: Mapping[str, bytes], base: str = "HEAD") -> bool:
    """Whether commit `base` has `files` (paths below `repo_root` to contents).

    Raises UserError when there is no repository or no commit in it.
    """
    repository = LocalRepository.open(repo_root)
    commit = repository.commit(base)
    return repository.tree_with(commit.sha, files) == commit.tree


def is_proposed(repo_root: Path, files: Mapping[str, bytes], branch: str, base: str = "HEAD") -> bool:
    """Whether `commit_to_branch` would return UNCHANGED. Raises UserError as `is_committed` does."""
    repository = LocalRepository.open(repo_root)
    parent = repository.commit(base)
    old = repository.tip(branch)
    if old is None:
        return False
    beyond = list(repository.commits_beyond(parent.sha, old))
    return not _describe_foreign(beyond) and _is_single_commit(
        beyond, repository.tree_with(parent.sha, files), parent
    )


def _describe_foreign(beyond: Sequence[Commit]) -> str:
    return describe_foreign(beyond, complete=len(beyond) < MAX_COMMITS)


def _is_single_commit(beyond: Sequence[Commit], tree: str, parent: Commit) -> bool:
    """Whether the commits of a branch are a single one with this tree on this base."""
    return len(beyond) == 1 and beyond[0].tree == tree and beyond[0].parents == (parent.sha,)


def _commit(
    repository: LocalRepository,
    branch: str,
    parent: Commit,
    tree: str,
    message: str,
    identity: CommitIdentity | None,
) -> BranchResult:
    old = repository.tip(branch)
    if old is not None:
        beyond = list(repository.commits_beyond(parent.sha, old))
        others = _describe_foreign(beyond)
        if others:
            return BranchResult(branch, old, BranchOutcome.HUMAN_EDITED, detail=f"{branch!r}: {others}")
        if _is_single_commit(beyond, tree, parent):
            return BranchResult(branch, old, BranchOutcome.UNCHANGED)
    place = repository.where_checked_out(branch)
    if place is not None:
        raise UserError(
            f"the branch {branch!r} is checked out in {place!r}",
            hint="switch that work tree to another branch: git switch -",
        )
    commit_id = repository.commit_tree(tree, parent.sha, sign(message, tree), identity)
    repository.move_branch(branch, commit_id, old, "reconcile: propose resolved CIDs")
    return BranchResult(branch, commit_id, BranchOutcome.CREATED if old is None else BranchOutcome.UPDATED)
