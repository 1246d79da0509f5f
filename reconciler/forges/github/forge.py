"""Proposals on GitHub: the sequence of calls, and what each failure in the middle of it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reconciler.errors import UsageError
from reconciler.forges.github.access import find_access
from reconciler.forges.github.address import GitHubAddress
from reconciler.forges.github.comments import Comments
from reconciler.forges.github.errors import github_judge, says
from reconciler.forges.github.git_data import Comparison, GitData
from reconciler.forges.github.pulls import Pull, Pulls
from reconciler.forges.interface import (
    BODY_LIMIT,
    PROPOSAL_BRANCH,
    Access,
    BranchOutcome,
    BranchResult,
    Clock,
    CommentOutcome,
    Proposal,
    ProposalOutcome,
    ProposalResult,
    check_files,
)
from reconciler.forges.ownership import foreign, sign
from reconciler.forges.rest import RestApi
from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    RejectedError,
    RequestError,
    TransientError,
)
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    import httpx

PUBLIC_API = "https://api.github.com"

_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_WRITE_GAP = 1.0  # seconds; GitHub asks for it, and limits those who do not heed it
_ATTEMPTS = 3
_CLOSED = "proposal-closed"


class GitHub:
    """One repository on GitHub or GitHub Enterprise. Implements `Forge`.

    An unchanged state costs at most 6 calls of the API, a changed one at most 12. `api_url` is what GitHub
    itself calls its API URL (for Enterprise Server https://HOST/api/v3). Raises UsageError for one that does
    not hold.
    """

    name = "GitHub"

    def __init__(
        self,
        repository: str,
        token: Secret,
        *,
        api_url: str = PUBLIC_API,
        clock: Clock = Clock(),  # noqa: B008  frozen, and the real one
        transport: httpx.BaseTransport | None = None,
        progress: Progress = QUIET,
    ) -> None:
        from reconciler.net.client import HttpClient
        from reconciler.net.retry import NO_RETRY

        self._address = GitHubAddress.of(api_url, repository)
        http = HttpClient(
            self._address.base,
            name=self.name,
            auth=Auth(Scheme.BEARER, token),
            retry=NO_RETRY,  # RestApi asks again, with what it knows of GitHub
            transport=transport,
        )
        judge = github_judge(repository, clock.now)
        self._api = RestApi(
            http, judge, headers=_HEADERS, clock=clock, write_gap=_WRITE_GAP, progress=progress
        )
        self._token = token
        self._git = GitData(self._api, self._address)
        self._pulls = Pulls(self._api, self._address)
        self._comments = Comments(self._api, self._address)

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
        check_files(files)
        if base == branch:
            raise UsageError(f"the proposal's branch {branch!r} cannot be its own base")
        error: RequestError = ConflictError(self.name, f"the branch {branch!r} kept moving", hint="run again")
        for _ in range(_ATTEMPTS):
            try:
                return self._place(files, message, base, planned, branch)
            except _AgainError as again:
                error = again.cause or error
        raise error

    def ensure_proposal(self, proposal: Proposal) -> ProposalResult:
        """As `Forge.ensure_proposal`. Reviews are asked for once, when the pull request is opened."""
        if len(proposal.body) > BODY_LIMIT:
            raise UsageError(f"a body of {len(proposal.body)} characters is longer than {BODY_LIMIT}")
        pull = self._pulls.open_one(proposal.branch, proposal.base)
        outcome = ProposalOutcome.UNCHANGED
        if pull is not None and not pull.says(proposal):
            pull = self._pulls.edit(pull.number, proposal)
            outcome = ProposalOutcome.UPDATED
        if pull is None or not pull.open:  # none, or closed between the two calls
            pull, outcome = self._open(proposal)
        if pull is None:
            return ProposalResult(None, None, ProposalOutcome.NONE, "the base holds everything already")
        if self._dress(pull, proposal, new=outcome is ProposalOutcome.CREATED) and outcome is _UNCHANGED:
            outcome = ProposalOutcome.UPDATED
        return ProposalResult(pull.number, pull.url, outcome)

    def close_proposal(self, comment: str, *, base: str, branch: str = PROPOSAL_BRANCH) -> ProposalResult:
        """As `Forge.close_proposal`."""
        pull = self._pulls.open_one(branch, base)
        if pull is None:
            return ProposalResult(None, None, ProposalOutcome.NONE)
        tip = self._git.tip(pull.base)
        comparison = None if tip is None else self._git.compare(tip, pull.head)
        theirs = _not_ours(comparison)
        if theirs:
            detail = f"nothing is left to propose, but {theirs}; close #{pull.number} by hand"
            return ProposalResult(pull.number, pull.url, ProposalOutcome.UNCHANGED, detail)
        self._comments.upsert(pull.number, _CLOSED, comment)
        self._pulls.close(pull.number)
        try:
            self._git.delete_branch(branch, pull.head)
        except RequestError as error:
            if self._git.tip(branch) == pull.head:
                raise
            detail = f"the branch was moved meanwhile, and stays ({error.message})"
            return ProposalResult(pull.number, pull.url, ProposalOutcome.CLOSED, detail)
        return ProposalResult(pull.number, pull.url, ProposalOutcome.CLOSED)

    def upsert_comment(self, number: int, marker: str, body: str, *, create: bool = True) -> CommentOutcome:
        """As `Forge.upsert_comment`."""
        return self._comments.upsert(number, marker, body, create=create)

    def access(self) -> Access:
        """As `Forge.access`."""
        return find_access(self._api, self._address, self._comments, self._token)

    def close(self) -> None:
        """Release connections. May be called twice."""
        self._api.close()

    def _place(
        self, files: Mapping[str, bytes], message: str, base: str, planned: str | None, branch: str
    ) -> BranchResult:
        """One try of `ensure_branch`. Raises _AgainError when the branch has to be looked at anew."""
        parent = self._git.tip(base)
        if parent is None:
            hint = (
                "name the branch that proposals are merged into; where it is there, the token may not see "
                "the repository"
            )
            raise NotFoundError(
                self.name, f"has no branch {base!r} in {self._address.repository!r}", hint=hint
            )
        tip = self._git.tip(branch)
        if planned is not None and planned != parent:
            moved = _moved_under(self._git.compare(planned, parent), files, planned, base)
            if moved:
                return BranchResult(branch, tip or parent, BranchOutcome.BASE_MOVED, detail=moved)
        comparison = None if tip is None else self._git.compare(parent, tip)
        if tip is not None:
            theirs = _not_ours(comparison)
            if theirs:
                return BranchResult(branch, tip, BranchOutcome.HUMAN_EDITED, detail=f"{branch!r}: {theirs}")
        base_tree = self._git.commit(parent).tree if comparison is None else comparison.base.tree
        tree = self._git.make_tree(base_tree, files)
        if tree == base_tree:
            return BranchResult(
                branch, parent, BranchOutcome.EMPTY, detail="the base holds these files already"
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
        """Move the branch, and find out what became of it when the answer does not say."""
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
                raise _AgainError(None) from error
            if error.may_retry:
                raise _AgainError(error) from error
            raise

    def _open(self, proposal: Proposal) -> tuple[Pull | None, ProposalOutcome]:
        """Open the pull request; None when there is nothing to merge.

        Looks for it before each further try.
        """
        error: RequestError
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._pulls.create(proposal), ProposalOutcome.CREATED
            except TransientError as failure:
                error = failure
                found = self._pulls.open_one(proposal.branch, proposal.base)
                if found is not None:
                    return found, ProposalOutcome.CREATED
            except AccessDeniedError as failure:
                page = self._address.compare_page(proposal.base, proposal.branch)
                failure.hint = f"{failure.hint}; the branch is ready, a person can open it at {page}"
                raise
            except RejectedError as failure:
                error = failure
                if says(failure, "no commits between"):
                    return None, ProposalOutcome.NONE
                if says(failure, "already exists"):
                    return self._existing(proposal, failure), ProposalOutcome.UPDATED
                if not says(failure, "could not resolve to a node"):
                    raise
            self._api.clock.sleep(float(attempt))  # GitHub may need a moment to see a branch that is new
        raise error

    def _existing(self, proposal: Proposal, error: RequestError) -> Pull:
        """The pull request that GitHub says exists, saying what is proposed."""
        found = self._pulls.open_one(proposal.branch, proposal.base)
        found = found or self._pulls.open_one_by_paging(proposal.branch, proposal.base)
        if found is None:
            raise error
        return found if found.says(proposal) else self._pulls.edit(found.number, proposal)

    def _dress(self, pull: Pull, proposal: Proposal, *, new: bool) -> bool:
        """Labels that are missing, and reviews when it is new. Whether anything was done."""
        labels = [label for label in proposal.labels if label not in pull.labels]
        reviewers = [name for name in proposal.reviewers if name not in pull.reviewers] if new else []
        try:
            if labels:
                self._pulls.add_labels(pull.number, labels)
            if reviewers:
                self._pulls.request_reviews(pull.number, reviewers)
        except RequestError as error:
            error.hint = f"{error.hint or 'run again'}; the pull request itself is there: {pull.url}"
            raise
        return bool(labels or reviewers)


class _AgainError(Exception):
    """The branch has to be looked at anew; `cause` is what is raised when that does not help either."""

    def __init__(self, cause: RequestError | None) -> None:
        super().__init__()
        self.cause = cause


_UNCHANGED = ProposalOutcome.UNCHANGED


def _not_ours(comparison: Comparison | None) -> str:
    """What a branch carries that is not ours, worded for a user; "" when all of it is ours."""
    if comparison is None:
        return "the branch shares no history with its base, and is left alone"
    most = len(comparison.commits) + (1 if comparison.all_commits else 0)
    return foreign(comparison.commits, most)


def _moved_under(comparison: Comparison | None, files: Mapping[str, bytes], planned: str, base: str) -> str:
    """Why files made from `planned` do not fit the base of now, worded for a user; "" when they do."""
    if comparison is None:
        return f"the commit {planned[:12]} that was planned from is not in {base!r}: push it, and run again"
    if not comparison.ahead:
        return f"{base!r} was rewritten since {planned[:12]}: run again on its newest commit"
    changed = sorted(comparison.paths & files.keys())
    if changed or not comparison.all_paths:
        what = f" and changed {changed[0]!r}" if changed else ""
        return f"{base!r} moved on from {planned[:12]}{what}: run again on its newest commit"
    return ""
