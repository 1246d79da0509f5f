"""The branches of a GitHub repository, read again whenever a response leaves open whether they moved."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.forges.commits import (
    describe_base_move,
    describe_foreign,
    describe_missing_commit,
    sign,
)
from reconciler.forges.github.git_data import CommitComparison, GitData
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchOutcome, BranchResult
from reconciler.net.errors import ConflictError, NotFoundError, RequestError

_ATTEMPTS = 3


class GitHubBranches:
    """The branches of one repository through its git database API. Implements `Branches`."""

    def __init__(self, git: GitData, repository: str) -> None:
        self._git = git
        self._repository = repository

    def ensure_branch(
        self,
        files: Mapping[str, bytes],
        message: str,
        *,
        base: str,
        planned: str | None = None,
        branch: str = PROPOSAL_BRANCH,
    ) -> BranchResult:
        """As `Branches.ensure_branch`."""
        error: RequestError = ConflictError(
            self._git.name, f"the branch {branch!r} changed during every attempt", hint="run again"
        )
        for _ in range(_ATTEMPTS):
            try:
                return self._place(files, message, base, planned, branch)
            except _ReadAgainError as again:
                error = again.cause or error
        raise error

    def describe_foreign(self, base: str, branch: str, head: str) -> str:  # noqa: ARG002 - head identifies it
        """As `Branches.describe_foreign`."""
        tip = self._git.tip(base)
        return _describe_foreign(None if tip is None else self._git.compare(tip, head))

    def delete_branch(self, branch: str, head: str) -> None:
        """As `Branches.delete_branch`."""
        try:
            self._git.delete_branch(branch, head)
        except RequestError as error:
            now = self._git.tip(branch)
            if now == head:
                raise
            if now is not None:
                text = f"the branch {branch!r} was changed meanwhile and is not deleted ({error.message})"
                raise ConflictError(self._git.name, text) from error

    def _place(
        self, files: Mapping[str, bytes], message: str, base: str, planned: str | None, branch: str
    ) -> BranchResult:
        """Make one attempt of `ensure_branch`. Raises _ReadAgainError when the branch moved meanwhile."""
        parent = self._git.tip(base)
        if parent is None:
            hint = (
                "name the branch that proposals are merged into; if it exists, the token may not read the "
                "repository"
            )
            raise NotFoundError(self._git.name, f"no branch {base!r} in {self._repository!r}", hint=hint)
        tip = self._git.tip(branch)
        if planned is not None and planned != parent:
            moved = _describe_move(self._git.compare(planned, parent), files, planned, base)
            if moved:
                return BranchResult(branch, tip or parent, BranchOutcome.BASE_MOVED, detail=moved)
        comparison = None if tip is None else self._git.compare(parent, tip)
        if tip is not None:
            foreign = _describe_foreign(comparison)
            if foreign:
                return BranchResult(branch, tip, BranchOutcome.HUMAN_EDITED, detail=f"{branch!r}: {foreign}")
        base_tree = self._git.commit(parent).tree if comparison is None else comparison.base.tree
        tree = self._git.make_tree(base_tree, files)
        if tree == base_tree:
            return BranchResult(
                branch, parent, BranchOutcome.EMPTY, detail="the base has these files already"
            )
        if comparison is not None and len(comparison.commits) == 1:
            there = comparison.commits[0]
            if there.tree == tree and there.parents == (parent,):
                return BranchResult(branch, there.sha, BranchOutcome.UNCHANGED, there.verified)
        commit = self._git.make_commit(tree, parent, sign(message, tree))
        self._point(branch, tip, commit.sha)
        outcome = BranchOutcome.CREATED if tip is None else BranchOutcome.UPDATED
        return BranchResult(branch, commit.sha, outcome, commit.verified)

    def _point(self, branch: str, old: str | None, new: str) -> None:
        """Move or create the branch, and read it when the answer does not say whether it moved."""
        try:
            if old is None:
                self._git.create_branch(branch, new)
            else:
                self._git.move_branch(branch, old, new)
        except RequestError as error:
            now = self._git.tip(branch)
            if now == new:
                return
            if now != old:
                raise _ReadAgainError(None) from error
            if error.may_retry:
                raise _ReadAgainError(error) from error
            raise


class _ReadAgainError(Exception):
    """The branch must be read again; `cause` is raised when the attempts are used up."""

    def __init__(self, cause: RequestError | None) -> None:
        super().__init__()
        self.cause = cause


def _describe_foreign(comparison: CommitComparison | None) -> str:
    if comparison is None:
        return "the branch shares no history with its base and is left unchanged"
    return describe_foreign(comparison.commits, complete=comparison.all_commits)


def _describe_move(
    comparison: CommitComparison | None, files: Mapping[str, bytes], planned: str, base: str
) -> str:
    if comparison is None:
        return describe_missing_commit(base, planned)
    if not comparison.ahead:
        return f"{base!r} was rewritten since {planned[:12]}: run again on its newest commit"
    return describe_base_move(base, planned, files.keys(), comparison.paths, complete=comparison.all_paths)
