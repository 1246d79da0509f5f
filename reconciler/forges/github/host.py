"""Pull requests and comments of a GitHub repository, through its REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.forges.github.access import find_access
from reconciler.forges.github.api import GitHubAddress, GitHubErrors, graphql
from reconciler.forges.github.branches import GitHubBranches
from reconciler.forges.github.git_data import GitData
from reconciler.forges.hosted_forge import HostedForge, PullRequest
from reconciler.forges.interface import Access, Clock, Proposal
from reconciler.forges.rest import RestApi
from reconciler.forges.rest_host import PullsHost
from reconciler.net.auth import Secret
from reconciler.net.errors import AccessDeniedError, ConflictError, RejectedError, TransientError
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    from reconciler.net.transport import Transport

PUBLIC_API = "https://api.github.com"

_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_WRITE_GAP = 1.0  # seconds; GitHub recommends it, and limits clients that ignore it
_WHO = "query { viewer { login } }"


class GitHubHost(PullsHost):
    """The pull requests of one repository. Implements `Host`."""

    name = "GitHub"
    draft_prefix = ""

    def __init__(self, api: RestApi, address: GitHubAddress, token: Secret) -> None:
        super().__init__(api, address.path(), address.repository)
        self._address = address
        self._token = token
        self._filter_works = True

    def open_requests(self, branch: str) -> list[PullRequest]:
        """As `Host.open_requests`, filtered by head until the filter proves to have missed one.

        GitHub's filter misses some pull requests of repositories that are forks themselves.
        """
        params = [("state", "open"), *self._head(branch)]
        listed = self.api.read_pages(f"{self._root}/pulls", doing="finding the pull request", params=params)
        return self._pulls_of(branch, listed)

    def closed_requests(self, branch: str) -> list[PullRequest]:
        """As `Host.closed_requests`."""
        params = [("state", "closed"), *self._head(branch), ("per_page", "100")]
        listed = self.api.read(f"{self._root}/pulls", doing="finding closed pull requests", params=params)
        return self._pulls_of(branch, listed.items())

    def _head(self, branch: str) -> list[tuple[str, str]]:
        return [("head", f"{self._address.owner}:{branch}")] if self._filter_works else []

    def create(self, proposal: Proposal, title: str) -> PullRequest | None:
        """As `Host.create`. When the token may not open it, the hint names the page where a person can."""
        body = {
            "title": title,
            "body": proposal.body,
            "head": proposal.branch,
            "base": proposal.base,
            "draft": proposal.draft,
            "maintainer_can_modify": True,
        }
        try:
            return self._post_pull(body)
        except AccessDeniedError as error:
            page = self._address.compare_page(proposal.base, proposal.branch)
            error.hint = f"{error.hint}; the branch is ready, a person can open it at {page}"
            raise
        except RejectedError as error:
            reason = error.reason.lower()
            if "no commits between" in reason:
                return None
            message = error.message.removeprefix(f"{self.name}: ")
            if "already exists" in reason:
                self._filter_works = False
                raise ConflictError(self.name, message, hint="run again", status=error.status) from None
            if "could not resolve to a node" in reason:  # GitHub does not see the new branch yet
                raise TransientError(self.name, message, status=error.status) from None
            raise

    def access(self) -> Access:
        """As `Host.access`."""
        return find_access(self.api, self._address, self.login, self._token)

    def _read_login(self) -> str:
        doing = "identifying the token's account"
        found = graphql(self.api, self._address, _WHO, {}, doing=doing, repeatable=True)
        return found.text("viewer", "login")

    def _account_names(self, login: str) -> tuple[str, ...]:
        return (login, f"{login}[bot]")  # GraphQL may report a bot's login without its ending


def github(
    repository: str,
    token: Secret,
    *,
    api_url: str = PUBLIC_API,
    clock: Clock = Clock(),  # noqa: B008 - frozen
    transport: Transport | None = None,
    progress: Progress = QUIET,
) -> HostedForge:
    """Return the forge of the repository `owner/name` on GitHub or GitHub Enterprise.

    An unchanged state costs at most 6 calls of the API, a changed one at most 12. `api_url` is what GitHub
    itself calls its API URL (for Enterprise Server https://HOST/api/v3). Raises UsageError when it or
    `repository` is invalid.
    """
    address = GitHubAddress.of(api_url, repository)
    api = RestApi(
        GitHubHost.name,
        address.base,
        token,
        GitHubErrors(repository, clock.now),
        headers=_HEADERS,
        clock=clock,
        write_gap=_WRITE_GAP,
        transport=transport,
        progress=progress,
    )
    branches = GitHubBranches(GitData(api, address), repository)
    return HostedForge(GitHubHost(api, address, token), branches)
