"""The algorithm of proposals on a forge, the same for GitHub, GitLab and Gitea.

A forge consists of a `Host`, the calls of its API for pull requests and comments, and of `Branches`, which
move branches by compare-and-swap: through the git database API of GitHub, and through pushes with a lease
elsewhere.
A call that may have been carried out is never sent again before its effect was checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from reconciler.errors import UsageError
from reconciler.forges.content_marker import mark_closed
from reconciler.forges.interface import (
    BODY_LIMIT,
    PROPOSAL_BRANCH,
    Access,
    BranchEdit,
    BranchResult,
    Clock,
    CommentOutcome,
    FoundProposal,
    Names,
    Proposal,
    ProposalOutcome,
    ProposalResult,
    marked,
)
from reconciler.forges.rest import RestApi
from reconciler.net.errors import ConflictError, RejectedError, RequestError, TransientError

_ATTEMPTS = 3
_CLOSED = "proposal-closed"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull or merge request; `head` is the commit id at the tip of its branch.

    `reviewers` are those who are asked already, as far as the host reports them: user names, `team:NAME`.
    """

    number: int
    url: str
    open: bool
    title: str
    body: str
    base: str
    head: str
    labels: frozenset[str]
    reviewers: frozenset[str] = frozenset()
    merged: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a pull request."""

    number: int
    body: str


class Host(Protocol):
    """The API of one repository's pull requests. Every method raises RequestError."""

    name: str
    draft_prefix: str  #: how the title of a draft begins; "" when a draft is not marked by its title
    api: RestApi

    def open_requests(self, branch: str) -> list[PullRequest]:
        """Return the open pull requests from `branch` of this repository, not of its forks."""

    def closed_requests(self, branch: str) -> list[PullRequest]:
        """Return the newest closed and merged pull requests from `branch` of this repository."""

    def create(self, proposal: Proposal, title: str) -> PullRequest | None:
        """Open a pull request; None when there is nothing to merge. The call is sent once.

        Raises ConflictError or RejectedError when another one may be open, TransientError when another
        attempt may succeed.
        """

    def update(self, number: int, title: str, body: str, base: str) -> PullRequest:
        """Change an open pull request."""

    def close_request(self, number: int) -> None:
        """Close a pull request without merging it."""

    def add_labels(self, number: int, labels: list[str]) -> None:
        """Add labels by name, and create those that the repository does not have."""

    def request_reviews(self, number: int, names: list[str]) -> None:
        """Request reviews from users and, where the host has teams, from `team:NAME`."""

    def own_comments(self, number: int) -> Iterator[Comment]:
        """Iterate over the comments of the token's account on a pull request."""

    def create_comment(self, number: int, body: str) -> None:
        """Add a comment. The call is sent once."""

    def update_comment(self, number: int, comment: int, body: str) -> None:
        """Change a comment."""

    def access(self) -> Access:
        """Return what the token may do."""


class Branches(Protocol):
    """The branches of one repository. Every method raises RequestError."""

    def locate_branch(self, names: Names, *, base: str, owns: Callable[[frozenset[str]], bool]) -> str:
        """As `Forge.locate_branch`."""

    def ensure_branch(
        self, edit: BranchEdit, *, base: str, branch: str = PROPOSAL_BRANCH, adds: bool = False
    ) -> BranchResult:
        """As `Forge.ensure_branch`."""

    def describe_foreign(self, base: str, branch: str, head: str) -> str:
        """Describe a commit of `branch` that is not ours; "" when there is none.

        `head` is the tip of the branch that the host reports.
        """

    def delete_branch(self, branch: str, head: str) -> None:
        """Delete `branch` if its tip is `head`; no error when it does not exist.

        Raises ConflictError when the branch has moved.
        """


class HostedForge:
    """One repository on a forge. Implements `Forge`."""

    def __init__(self, host: Host, branches: Branches) -> None:
        self.name = host.name
        self._host = host
        self._branches = branches
        self._clock: Clock = host.api.clock
        self._open: dict[str, list[PullRequest]] = {}  # what `find_proposals` read, each for one use

    def locate_branch(self, names: Names, *, base: str, owns: Callable[[frozenset[str]], bool]) -> str:
        """As `Forge.locate_branch`."""
        return self._branches.locate_branch(names, base=base, owns=owns)

    def ensure_branch(
        self, edit: BranchEdit, *, base: str, branch: str = PROPOSAL_BRANCH, adds: bool = False
    ) -> BranchResult:
        """As `Forge.ensure_branch`."""
        if base == branch:
            raise UsageError(f"the proposal's branch {branch!r} cannot be its own base")
        return self._branches.ensure_branch(edit, base=base, branch=branch, adds=adds)

    def find_proposals(self, branch: str, *, closed: bool) -> list[FoundProposal]:
        """As `Forge.find_proposals`."""
        found = self._host.closed_requests(branch) if closed else self._host.open_requests(branch)
        if not closed:
            self._open[branch] = found
        newest_first = sorted(found, key=lambda one: -one.number)
        return [FoundProposal(one.number, one.url, one.body, one.merged) for one in newest_first]

    def ensure_proposal(self, proposal: Proposal) -> ProposalResult:
        """As `Forge.ensure_proposal`. Reviews are requested once, when the pull request is created."""
        if len(proposal.body) > BODY_LIMIT:
            raise UsageError(f"a body of {len(proposal.body)} characters is longer than {BODY_LIMIT}")
        found = self._find(proposal.branch, proposal.base)
        outcome = ProposalOutcome.UNCHANGED
        if found is not None:
            found, outcome = self._update(found, proposal)
        if found is None or not found.open:  # none, or closed between the two calls
            found, outcome = self._create(proposal)
        if found is None:
            return ProposalResult(None, None, ProposalOutcome.NONE, "the base has all changes already")
        added = self._add_labels_and_reviews(found, proposal, new=outcome is ProposalOutcome.CREATED)
        if added and outcome is ProposalOutcome.UNCHANGED:
            outcome = ProposalOutcome.UPDATED
        return ProposalResult(found.number, found.url, outcome)

    def close_proposal(self, comment: str, *, base: str, branch: str = PROPOSAL_BRANCH) -> ProposalResult:
        """As `Forge.close_proposal`."""
        found = self._find(branch, base)
        if found is None:
            return ProposalResult(None, None, ProposalOutcome.NONE)
        foreign = self._branches.describe_foreign(found.base, branch, found.head)
        if foreign:
            detail = f"nothing is left to propose, but {foreign}; close #{found.number} by hand"
            return ProposalResult(found.number, found.url, ProposalOutcome.UNCHANGED, detail)
        self.upsert_comment(found.number, _CLOSED, comment)
        body = mark_closed(found.body)
        if body != found.body:  # before it is closed: else the closing would look like a person's
            self._host.update(found.number, found.title, body, found.base)
        self._host.close_request(found.number)
        detail = ""
        try:
            self._branches.delete_branch(branch, found.head)
        except ConflictError as error:
            detail = error.message
        return ProposalResult(found.number, found.url, ProposalOutcome.CLOSED, detail)

    def upsert_comment(self, number: int, marker: str, body: str, *, create: bool = True) -> CommentOutcome:
        """As `Forge.upsert_comment`."""
        text = marked(marker, body)
        if len(text) > BODY_LIMIT:
            raise UsageError(f"a comment of {len(text)} characters is longer than {BODY_LIMIT}")
        found = self._find_comment(number, marker)
        if found is None and not create:
            return CommentOutcome.NONE
        if found is None:
            try:
                self._host.create_comment(number, text)
                return CommentOutcome.CREATED
            except TransientError:
                found = self._find_comment(number, marker)
                if found is None:
                    raise
        if not _differ(found.body, text):
            return CommentOutcome.UNCHANGED
        self._host.update_comment(number, found.number, text)
        return CommentOutcome.UPDATED

    def access(self) -> Access:
        """As `Forge.access`."""
        return self._host.access()

    def close(self) -> None:
        """Release connections. May be called twice."""
        self._host.api.close()

    def _find(self, branch: str, base: str) -> PullRequest | None:
        """Return the open pull request of our branch; when people opened several, the one into `base`."""
        known = self._open.pop(branch, None)
        found = self._host.open_requests(branch) if known is None else known
        return min(found, key=lambda one: (one.base != base, one.number), default=None)

    def _create(self, proposal: Proposal) -> tuple[PullRequest | None, ProposalOutcome]:
        """Open the pull request; None when there is nothing to merge."""
        title = _title(proposal, self._host.draft_prefix if proposal.draft else "")
        error: RequestError
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                created = self._host.create(proposal, title)
                return created, ProposalOutcome.NONE if created is None else ProposalOutcome.CREATED
            except TransientError as failure:
                error = failure
                found = self._find(proposal.branch, proposal.base)
                if found is not None:
                    return found, ProposalOutcome.CREATED
            except (ConflictError, RejectedError):
                found = self._find(proposal.branch, proposal.base)
                if found is None:
                    raise
                return self._update(found, proposal)
            self._clock.sleep(float(attempt))  # a host may need a moment to see a new branch
        raise error

    def _update(self, found: PullRequest, proposal: Proposal) -> tuple[PullRequest, ProposalOutcome]:
        """Make title, body and base as proposed; whether it is a draft is left as people have it now."""
        prefix = self._host.draft_prefix
        title = _title(proposal, prefix if found.title.startswith(prefix) else "")
        if (found.title, found.base) == (title, proposal.base) and not _differ(found.body, proposal.body):
            return found, ProposalOutcome.UNCHANGED
        changed = self._host.update(found.number, title, proposal.body, proposal.base)
        return changed, ProposalOutcome.UPDATED

    def _add_labels_and_reviews(self, found: PullRequest, proposal: Proposal, *, new: bool) -> bool:
        """Add missing labels, and request reviews when it is new. Return whether anything was done."""
        labels = [label for label in proposal.labels if label not in found.labels]
        reviewers = [name for name in proposal.reviewers if name not in found.reviewers] if new else []
        try:
            if labels:
                self._host.add_labels(found.number, labels)
            if reviewers:
                self._host.request_reviews(found.number, reviewers)
        except RequestError as error:
            error.hint = f"{error.hint or 'run again'}; the pull request itself is open: {found.url}"
            raise
        return bool(labels or reviewers)

    def _find_comment(self, number: int, marker: str) -> Comment | None:
        """Return our comment with `marker`. Comments of others are skipped: their authors can change them."""
        start = marked(marker, "")
        return next((one for one in self._host.own_comments(number) if one.body.startswith(start)), None)


def _title(proposal: Proposal, prefix: str) -> str:
    return f"{prefix}{proposal.title.strip()}"


def _differ(one: str, other: str) -> bool:
    """Whether two texts differ in more than line ends (browsers send CRLF) and surrounding space."""
    return one.replace("\r\n", "\n").strip() != other.replace("\r\n", "\n").strip()
