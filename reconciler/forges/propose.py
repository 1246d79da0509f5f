"""One proposal from end to end: the branch, then whatever the branch's outcome asks of the pull request."""

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

_LEFT_ALONE = (BranchOutcome.HUMAN_EDITED, BranchOutcome.BASE_MOVED)


def propose(
    forge: Forge,
    files: Mapping[str, bytes],
    message: str,
    proposal: Proposal,
    *,
    planned: str | None,
    farewell: str,
) -> tuple[BranchResult, ProposalResult]:
    """Make branch and pull request be as wanted; the same call again changes nothing.

    When the base holds everything already, an open pull request of ours is closed with the comment
    `farewell`. A branch that a person edited, or a base that moved under the files, is left alone with its
    pull request. Raises PeerError and UsageError as the forge does.
    """
    branch = forge.ensure_branch(files, message, base=proposal.base, planned=planned, branch=proposal.branch)
    if branch.outcome is BranchOutcome.EMPTY:
        return branch, forge.close_proposal(farewell, base=proposal.base, branch=proposal.branch)
    if branch.outcome in _LEFT_ALONE:
        return branch, ProposalResult(None, None, ProposalOutcome.NONE, branch.detail)
    return branch, forge.ensure_proposal(proposal)
