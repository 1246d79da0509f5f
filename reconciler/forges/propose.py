"""A whole proposal: the branch, then the pull request, which depends on the outcome of the branch."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.forges.interface import (
    BranchOutcome,
    BranchResult,
    Forge,
    Proposal,
    ProposalOutcome,
    ProposalResult,
)

_UNTOUCHED = (BranchOutcome.HUMAN_EDITED, BranchOutcome.BASE_MOVED)


def propose(
    forge: Forge,
    files: Mapping[str, bytes],
    message: str,
    proposal: Proposal,
    *,
    planned: str | None,
    close_comment: str,
) -> tuple[BranchResult, ProposalResult]:
    """Create or update the branch and its pull request. Idempotent.

    When the base has all files already, close an open pull request of ours with `close_comment`. When a
    person edited the branch, or the base changed these files, leave branch and pull request unchanged.
    Raises PeerError and UsageError as the forge does.
    """
    branch = forge.ensure_branch(files, message, base=proposal.base, planned=planned, branch=proposal.branch)
    if branch.outcome is BranchOutcome.EMPTY:
        return branch, forge.close_proposal(close_comment, base=proposal.base, branch=proposal.branch)
    if branch.outcome in _UNTOUCHED:
        return branch, ProposalResult(None, None, ProposalOutcome.NONE, branch.detail)
    return branch, forge.ensure_proposal(proposal)
