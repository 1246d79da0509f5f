"""A whole proposal: the branch, then the pull request, which depends on the outcome of the branch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from reconciler.forges.content_marker import belongs_to, read_marker
from reconciler.forges.interface import (
    BranchEdit,
    BranchOutcome,
    BranchResult,
    Forge,
    FoundProposal,
    Names,
    Proposal,
    ProposalOutcome,
    ProposalResult,
)

_UNTOUCHED = (BranchOutcome.HUMAN_EDITED, BranchOutcome.TAKEN)
_ATTEMPTS = 3


class ProposedEdit(BranchEdit, Protocol):
    """The edit of one index in a pull request.

    `items` describe what this run itself proposes; empty when it only closes what is finished.
    """

    @property
    def names(self) -> Names:
        """The branches that the index may propose on."""

    @property
    def place(self) -> str:
        """The path of the index in the repository."""

    @property
    def items(self) -> Collection[str]:
        """What this run itself proposes."""

    def describe(self, branch: str) -> Proposal:
        """Return the pull request for what `compose` returned last."""


def propose(
    forge: Forge, edit: ProposedEdit, *, base: str, close_comment: str
) -> tuple[BranchResult, ProposalResult]:
    """Create or update the branch and its pull request. Idempotent.

    What others proposed in an open pull request is kept. When a person closed a pull request with this
    content, nothing is done. When the base has everything already, close an open pull request of ours with
    `close_comment`. When a person edited the branch, leave branch and pull request unchanged. Raises
    PeerError and UsageError as the forge does, and what the edit raises.
    """
    for _ in range(_ATTEMPTS):
        name = forge.locate_branch(edit.names, base=base, owns=edit.owns)
        is_open = bool(forge.find_proposals(name, closed=False))
        declined = None if is_open or not edit.items else _find_declined(forge, edit)
        if declined is not None:
            detail = (
                f"a person closed pull request {declined.url} with this content; "
                "it stays closed until the content changes"
            )
            branch = BranchResult(name, "", BranchOutcome.UNCHANGED, detail=detail)
            return branch, ProposalResult(declined.number, declined.url, ProposalOutcome.DECLINED, detail)
        branch = forge.ensure_branch(edit, base=base, branch=name, adds=is_open)
        if branch.outcome is not BranchOutcome.TAKEN:
            break
    if branch.outcome is BranchOutcome.EMPTY:
        return branch, forge.close_proposal(close_comment, base=base, branch=name)
    if branch.outcome in _UNTOUCHED:
        return branch, ProposalResult(None, None, ProposalOutcome.NONE, branch.detail)
    return branch, forge.ensure_proposal(edit.describe(name))


def _find_declined(forge: Forge, edit: ProposedEdit) -> FoundProposal | None:
    """Return the newest pull request of the index, if a person closed it with all of the edit in it."""
    found = [
        one
        for branch in dict.fromkeys((edit.names.shared, edit.names.own))
        for one in forge.find_proposals(branch, closed=True)
    ]
    for one in sorted(found, key=lambda one: -one.number):
        marker = read_marker(one.body)
        if marker is not None and belongs_to(marker, edit.place):
            declined = not one.merged and not marker.closed and marker.covers(edit.place, edit.items)
            return one if declined else None
    return None
