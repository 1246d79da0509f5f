"""The branches of a GitHub repository, read again whenever a response leaves open whether they moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reconciler.forges.commits import describe_foreign, is_current, sign
from reconciler.forges.github.git_data import CommitComparison, GitData
from reconciler.forges.interface import (
    PROPOSAL_BRANCH,
    BranchEdit,
    BranchOutcome,
    BranchResult,
    Names,
    check_files,
)
from reconciler.net.errors import ConflictError, NotFoundError, RequestError

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class HostedFiles:
    """The files of a commit on GitHub. Implements `CommitFiles`."""

    git: GitData
    commit: str
    changed: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()  #: paths that the commit is known not to have

    def read(self, path: str) -> bytes | None:
        """As `CommitFiles.read`."""
        return None if path in self.absent else self.git.read_file(self.commit, path)


class GitHubBranches:
    """The branches of one repository through its git database API. Implements `Branches`."""

    def __init__(self, git: GitData, repository: str) -> None:
        self._git = git
        self._repository = repository
        self._located: dict[str, str | None] = {}  # tips that `locate_branch` read, each for one use

    def locate_branch(self, names: Names, *, base: str, owns: Callable[[frozenset[str]], bool]) -> str:
        """As `Branches.locate_branch`."""
        self._located = {}
        parent = self._located[base] = self._base_tip(base)

        def is_ours(branch: str) -> bool | None:
            tip = self._located[branch] = self._git.tip(branch)
            if tip is None:
                return None
            comparison = self._git.compare(parent, tip)
            return comparison is None or not comparison.paths or owns(comparison.paths)

        return names.choose(is_ours)

    def ensure_branch(
        self, edit: BranchEdit, *, base: str, branch: str = PROPOSAL_BRANCH, adds: bool = False
    ) -> BranchResult:
        """As `Branches.ensure_branch`."""
        error: RequestError = ConflictError(
            self._git.name, f"the branch {branch!r} changed during every attempt", hint="run again"
        )
        for _ in range(_ATTEMPTS):
            try:
                return self._place(edit, base, branch, adds=adds)
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

    def _tip(self, branch: str) -> str | None:
        return self._located.pop(branch) if branch in self._located else self._git.tip(branch)

    def _base_tip(self, base: str) -> str:
        tip = self._tip(base)
        if tip is None:
            hint = (
                "name the branch that proposals are merged into; if it exists, the token may not read the "
                "repository"
            )
            raise NotFoundError(self._git.name, f"no branch {base!r} in {self._repository!r}", hint=hint)
        return tip

    def _place(self, edit: BranchEdit, base: str, branch: str, *, adds: bool) -> BranchResult:
        """Make one attempt of `ensure_branch`. Raises _ReadAgainError when the branch moved meanwhile."""
        parent = self._base_tip(base)
        tip = self._tip(branch)
        comparison = None if tip is None else self._git.compare(parent, tip)
        proposed = None
        if tip is not None:
            if comparison is not None and comparison.paths and not edit.owns(comparison.paths):
                detail = f"the branch {branch!r} has the proposal of another index"
                return BranchResult(branch, tip, BranchOutcome.TAKEN, detail=detail)
            foreign = _describe_foreign(comparison)
            if foreign:
                return BranchResult(branch, tip, BranchOutcome.HUMAN_EDITED, detail=f"{branch!r}: {foreign}")
            if adds and comparison is not None:
                proposed = HostedFiles(self._git, tip, comparison.paths)
        absent = comparison.added if comparison is not None and comparison.ahead else frozenset()
        composed = edit.compose(HostedFiles(self._git, parent, absent=absent), proposed)
        check_files(composed.files)
        base_tree = self._git.commit(parent).tree if comparison is None else comparison.base.tree
        tree = self._git.make_tree(base_tree, composed.files)
        if tree == base_tree:
            return BranchResult(
                branch, parent, BranchOutcome.EMPTY, detail="the base has these files already"
            )
        if comparison is not None and len(comparison.commits) == 1:
            there = comparison.commits[0]
            if is_current(there, tree, parent, composed.message, sign_off=edit.sign_off):
                return BranchResult(branch, there.sha, BranchOutcome.UNCHANGED, there.verified)
        commit = self._git.make_commit(tree, parent, sign(composed.message, tree))
        if edit.sign_off:  # GitHub chooses the author, whom the first commit shows
            message = sign(composed.message, tree, commit.identity)
            commit = self._git.make_commit(tree, parent, message)
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
