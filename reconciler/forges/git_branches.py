"""Branches of a git remote, behind the interface that all forges share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.forges.git_remote import GitRemote
from reconciler.forges.interface import PROPOSAL_BRANCH, BranchResult


@dataclass(frozen=True, slots=True)
class GitBranches:
    """The branches of `remote`. Implements `Branches`."""

    remote: GitRemote

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
        return self.remote.ensure_branch(files, message, base=base, planned=planned, branch=branch)[0]

    def describe_foreign(self, base: str, branch: str, head: str) -> str:
        """As `Branches.describe_foreign`; the tip is read anew instead of taken from `head`."""
        del head
        return self.remote.foreign_commit(base, branch)

    def delete_branch(self, branch: str, head: str) -> None:
        """As `Branches.delete_branch`."""
        self.remote.delete_branch(branch, head)
