"""Proposals on forges that are used alike: the branch by git, the pull request by a small part of their API.

GitLab and Gitea let a branch move by compare-and-swap only through git itself, so that is how it moves here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from reconciler.errors import UsageError
from reconciler.forges.git_remote import GitRemote
from reconciler.forges.interface import (
    BODY_LIMIT,
    PROPOSAL_BRANCH,
    Access,
    BranchResult,
    CommentOutcome,
    Proposal,
    ProposalOutcome,
    ProposalResult,
    marked,
)
from reconciler.net.errors import ConflictError, RejectedError, RequestError, TransientError

_ATTEMPTS = 3
_CLOSED = "proposal-closed"


@dataclass(frozen=True, slots=True)
class Request:
    """A pull or merge request; `tip` is the commit at its head."""

    number: int
    url: str
    open: bool
    title: str
    body: str
    base: str
    tip: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Note:
    """A comment on a request; `author` is a login."""

    number: int
    author: str
    body: str


class Host(Protocol):
    """The part of a forge's API that a proposal needs. Every method raises RequestError."""

    name: str
    draft_prefix: str  #: what a title begins with while the request is a draft

    def open_requests(self, branch: str) -> list[Request]:
        """The open requests from `branch` of this very repository."""

    def create(self, proposal: Proposal, title: str) -> Request:
        """Open a request with its labels; never sent twice."""

    def request_reviews(self, number: int, names: tuple[str, ...]) -> None:
        """Ask people (and where there are such, `team:NAME`) for a review."""

    def edit(self, number: int, title: str, body: str, base: str) -> Request:
        """Change what an open request says."""

    def add_labels(self, number: int, labels: list[str]) -> None:
        """Put labels on a request, by name."""

    def close_request(self, number: int) -> None:
        """Close a request without merging."""

    def notes(self, number: int) -> list[Note]:
        """The comments on a request."""

    def add_note(self, number: int, body: str) -> None:
        """Comment; never sent twice."""

    def edit_note(self, number: int, note: int, body: str) -> None:
        """Change a comment."""

    def login(self) -> str:
        """Whom the token speaks for."""

    def access(self) -> Access:
        """What the token may do."""

    def close(self) -> None:
        """Release connections."""


class HostedForge:
    """One repository on such a forge. Implements `Forge`."""

    def __init__(self, host: Host, remote: GitRemote) -> None:
        self.name = host.name
        self._host = host
        self._remote = remote

    def ensure_branch(
        self,
        files: Mapping[str, bytes],
        message: str,
        *,
        base: str,
        planned: str | None = None,
        branch: str = PROPOSAL_BRANCH,
    ) -> BranchResult:
        """As `Forge.ensure_branch`."""
        return self._remote.ensure_branch(files, message, base=base, planned=planned, branch=branch)[0]

    def ensure_proposal(self, proposal: Proposal) -> ProposalResult:
        """As `Forge.ensure_proposal`."""
        if len(proposal.body) > BODY_LIMIT:
            raise UsageError(f"a body of {len(proposal.body)} characters is longer than {BODY_LIMIT}")
        found = self._find(proposal.branch, proposal.base)
        if found is None:
            found, new = self._open(proposal)
            outcome = ProposalOutcome.CREATED if new else ProposalOutcome.UNCHANGED
            if new and proposal.reviewers:
                self._host.request_reviews(found.number, proposal.reviewers)
        else:
            outcome = ProposalOutcome.UNCHANGED
        title = self._title(proposal, found)
        if (found.title, found.base) != (title, proposal.base) or _differ(found.body, proposal.body):
            found = self._host.edit(found.number, title, proposal.body, proposal.base)
            outcome = outcome if outcome is ProposalOutcome.CREATED else ProposalOutcome.UPDATED
        labels = [label for label in proposal.labels if label not in found.labels]
        if labels:
            self._host.add_labels(found.number, labels)
            outcome = outcome if outcome is ProposalOutcome.CREATED else ProposalOutcome.UPDATED
        return ProposalResult(found.number, found.url, outcome)

    def close_proposal(self, comment: str, *, base: str, branch: str = PROPOSAL_BRANCH) -> ProposalResult:
        """As `Forge.close_proposal`."""
        found = self._find(branch, base)
        if found is None:
            return ProposalResult(None, None, ProposalOutcome.NONE)
        theirs = self._remote.foreign_commit(found.base, branch)
        if theirs:
            detail = f"nothing is left to propose, but {theirs}; close #{found.number} by hand"
            return ProposalResult(found.number, found.url, ProposalOutcome.UNCHANGED, detail)
        self.upsert_comment(found.number, _CLOSED, comment)
        self._host.close_request(found.number)
        detail = ""
        try:
            self._remote.delete_branch(branch, found.tip)
        except ConflictError as error:
            detail = error.message
        return ProposalResult(found.number, found.url, ProposalOutcome.CLOSED, detail)

    def upsert_comment(self, number: int, marker: str, body: str, *, create: bool = True) -> CommentOutcome:
        """As `Forge.upsert_comment`."""
        text = marked(marker, body)
        if len(text) > BODY_LIMIT:
            raise UsageError(f"a comment of {len(text)} characters is longer than {BODY_LIMIT}")
        found = self._note(number, marker)
        if found is None and not create:
            return CommentOutcome.NONE
        if found is None:
            try:
                self._host.add_note(number, text)
                return CommentOutcome.CREATED
            except TransientError:
                found = self._note(number, marker)
                if found is None:
                    raise
        if not _differ(found.body, text):
            return CommentOutcome.UNCHANGED
        self._host.edit_note(number, found.number, text)
        return CommentOutcome.UPDATED

    def access(self) -> Access:
        """As `Forge.access`."""
        return self._host.access()

    def close(self) -> None:
        """Release connections. May be called twice."""
        self._host.close()

    def _find(self, branch: str, base: str) -> Request | None:
        found = self._host.open_requests(branch)
        return min(found, key=lambda one: (one.base != base, one.number), default=None)

    def _open(self, proposal: Proposal) -> tuple[Request, bool]:
        """Open it, and whether it is new. After a failure that may hide a success it is looked for first."""
        title = f"{self._host.draft_prefix}{proposal.title}" if proposal.draft else proposal.title
        error: RequestError
        for _ in range(_ATTEMPTS):
            try:
                return self._host.create(proposal, title), True
            except TransientError as failure:
                error, new = failure, True
            except (ConflictError, RejectedError) as failure:
                error, new = failure, False
            found = self._find(proposal.branch, proposal.base)
            if found is not None:
                return found, new
            if not isinstance(error, TransientError):
                break
        raise error

    def _title(self, proposal: Proposal, found: Request) -> str:
        """The wanted title; whether it is a draft stays as people have it now."""
        prefix = self._host.draft_prefix
        return f"{prefix}{proposal.title}" if found.title.startswith(prefix) else proposal.title

    def _note(self, number: int, marker: str) -> Note | None:
        me = self._host.login()
        start = marked(marker, "")
        ours = (one for one in self._host.notes(number) if one.author == me and one.body.startswith(start))
        return next(ours, None)


def _differ(one: str, other: str) -> bool:
    return one.replace("\r\n", "\n").strip() != other.replace("\r\n", "\n").strip()
