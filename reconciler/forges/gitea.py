"""Gitea and Forgejo: pull requests through their REST API (v1), branches through git.

Their pushes to `refs/for/` (AGit) need no API, but have no lease: they could overwrite what a person pushed
to the pull request. So a proposal is an ordinary branch here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reconciler.forges.git_remote import GitRemote
from reconciler.forges.hosted_forge import HostedForge, PullRequest
from reconciler.forges.interface import Ability, Access, Clock, Proposal
from reconciler.forges.local_repository import CommitIdentity
from reconciler.forges.rest import ErrorClassifier, RestApi
from reconciler.forges.rest_host import PullsHost
from reconciler.json_fields import JsonFields
from reconciler.net.auth import Secret
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    from reconciler.net.transport import Transport

_PERMISSIONS = "the token needs write access to repository and issue, and its owner to this repository"
_PAGE = ("limit", 50)  # the longest page of a default configuration
_CLOSED_PAGES = 10  # of closed pull requests, which are searched for the newest of our branch
_COLOR = "#8b8b8b"


class GiteaHost(PullsHost):
    """The pull requests of one repository. Implements `Host`."""

    name = "Gitea"
    draft_prefix = "WIP: "

    def open_requests(self, branch: str) -> list[PullRequest]:
        """As `Host.open_requests`; there is no filter by branch."""
        doing, params = "finding the pull request", [("state", "open")]
        path = f"{self._root}/pulls"
        return self._pulls_of(branch, self.api.read_pages(path, doing=doing, params=params, limit=_PAGE))

    def closed_requests(self, branch: str) -> list[PullRequest]:
        """As `Host.closed_requests`: those on the newest page that has one."""
        doing, path = "finding closed pull requests", f"{self._root}/pulls"
        for page in range(1, _CLOSED_PAGES + 1):
            params = [("state", "closed"), ("limit", str(_PAGE[1])), ("page", str(page))]
            listed = list(self.api.read(path, doing=doing, params=params).items())
            found = self._pulls_of(branch, iter(listed))
            if found or len(listed) < _PAGE[1]:
                return found
        return []

    def create(self, proposal: Proposal, title: str) -> PullRequest | None:
        """As `Host.create`."""
        return self._post_pull(
            {"head": proposal.branch, "base": proposal.base, "title": title, "body": proposal.body}
        )

    def add_labels(self, number: int, labels: list[str]) -> None:
        """As `Host.add_labels`. Gitea ignores labels that do not exist, so they are created."""
        missing = set(labels) - {label.text("name") for label in self._post_labels(number, labels).items()}
        if not missing:
            return
        path = f"{self._root}/labels"
        # Another run may have created them since, and Gitea accepts a second label with the same name.
        listed = self.api.read_pages(path, doing="reading the labels", limit=_PAGE)
        missing -= {label.text("name") for label in listed}
        for label in sorted(missing):
            body = {"name": label, "color": _COLOR}
            self.api.write("POST", path, body, doing=f"creating the label {label!r}", repeatable=False)
        self._post_labels(number, labels)

    def access(self) -> Access:
        """Return what the token's owner may do; the API does not show the scopes of the token."""
        repository = self.api.read(self._root, doing="reading the repository")
        granted = repository.flag("permissions", "push")
        hint = "" if granted else _PERMISSIONS
        abilities = (
            Ability("see the repository", True),
            Ability("push the branch", granted, hint),
            Ability("open pull requests", granted, hint),
        )
        archived = "the repository is archived: nothing can be written to it"
        return Access(
            self.login(), "Gitea token", abilities, (archived,) if repository.flag("archived") else ()
        )

    def _read_comments(self, number: int, doing: str) -> Iterator[JsonFields]:
        path = self._path(self.comments_path, number=number)
        return self.api.read(path, doing=doing).items()  # Gitea sends all on one page


def gitea(
    repository: str,
    token: Secret,
    *,
    git_url: str,
    api_url: str,
    identity: CommitIdentity | None = None,
    clock: Clock = Clock(),  # noqa: B008 - frozen
    transport: Transport | None = None,
    progress: Progress = QUIET,
) -> HostedForge:
    """Return the forge of the repository `owner/name`; `api_url` ends in /api/v1. Raises UsageError."""
    classify = ErrorClassifier(repository, _PERMISSIONS)
    api = RestApi(
        GiteaHost.name, api_url, token, classify, clock=clock, transport=transport, progress=progress
    )
    remote = GitRemote(GiteaHost.name, git_url, token, identity=identity)
    return HostedForge(GiteaHost(api, f"repos/{repository}", repository), remote)
