"""Gitea and Forgejo: pull requests through their REST API (v1); the branch is moved by git.

Their pushes to `refs/for/` (AGit) need no API, but have no lease: what a person pushed to the pull request
could be overwritten unseen. So a proposal is an ordinary branch here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reconciler.forges.fields import Fields
from reconciler.forges.git_remote import GitRemote
from reconciler.forges.host_errors import host_judge
from reconciler.forges.hosted import HostedForge, Note, Request
from reconciler.forges.interface import Ability, Access, Clock, Proposal
from reconciler.forges.plumbing import CommitIdentity
from reconciler.forges.rest import RestApi
from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    import httpx

_PERMISSIONS = "the token needs to write repository and issue, and its owner to write this repository"
_PAGE = 50  # the most that a default configuration gives
_PAGES = 40
_COLOR = "#8b8b8b"


class GiteaHost:
    """One repository's pull requests. Implements `Host`."""

    name = "Gitea"
    draft_prefix = "WIP: "

    def __init__(self, api: RestApi, repository: str) -> None:
        self._api = api
        self._repository = repository
        self._path = f"repos/{repository}"
        self._login: str | None = None

    def open_requests(self, branch: str) -> list[Request]:
        """The open pull requests from `branch` of this repository; there is no filter for that."""
        pulls = self._every("pulls", "looking for the pull request", ("state", "open"))
        return [_request(one) for one in pulls if self._is_ours(one, branch)]

    def create(self, proposal: Proposal, title: str) -> Request:
        """Open a pull request; never sent twice."""
        body = {"head": proposal.branch, "base": proposal.base, "title": title, "body": proposal.body}
        doing = "opening the pull request"
        return _request(self._api.write("POST", f"{self._path}/pulls", body, doing=doing, repeatable=False))

    def request_reviews(self, number: int, names: tuple[str, ...]) -> None:
        """Ask people and teams for a review."""
        body = {
            "reviewers": [name for name in names if not name.startswith("team:")],
            "team_reviewers": [name.removeprefix("team:") for name in names if name.startswith("team:")],
        }
        path = f"{self._path}/pulls/{number}/requested_reviewers"
        self._api.write("POST", path, body, doing=f"asking for reviews of #{number}", repeatable=True)

    def edit(self, number: int, title: str, body: str, base: str) -> Request:
        """Change what an open pull request says."""
        return self._patch(number, {"title": title, "body": body, "base": base}, "updating")

    def add_labels(self, number: int, labels: list[str]) -> None:
        """Put labels on it, and make those that the repository lacks: Gitea leaves unknown ones out."""
        path = f"{self._path}/issues/{number}/labels"
        doing = f"labelling #{number}"
        there = self._api.write("POST", path, {"labels": labels}, doing=doing, repeatable=True)
        missing = set(labels) - {label.text("name") for label in there.items()}
        if not missing:
            return
        # Made since, by another run: two of one name may exist there.
        missing -= {label.text("name") for label in self._every("labels", "reading the labels")}
        for label in sorted(missing):
            body = {"name": label, "color": _COLOR}
            self._api.write(
                "POST", f"{self._path}/labels", body, doing=f"making the label {label!r}", repeatable=False
            )
        self._api.write("POST", path, {"labels": labels}, doing=doing, repeatable=True)

    def _every(self, what: str, doing: str, *filters: tuple[str, str]) -> Iterator[Fields]:
        """The items of a listing, page by page."""
        for page in range(1, _PAGES + 1):
            params = [*filters, ("limit", str(_PAGE)), ("page", str(page))]
            items = list(self._api.read(f"{self._path}/{what}", params=params, doing=doing).items())
            yield from items
            if len(items) < _PAGE:
                return

    def close_request(self, number: int) -> None:
        """Close it without merging."""
        self._patch(number, {"state": "closed"}, "closing")

    def notes(self, number: int) -> list[Note]:
        """The comments on it; they come all at once."""
        found = self._api.read(
            f"{self._path}/issues/{number}/comments", doing=f"reading the comments on #{number}"
        )
        return [Note(one.number("id"), one.text("user", "login"), one.text("body")) for one in found.items()]

    def add_note(self, number: int, body: str) -> None:
        """Comment; never sent twice."""
        path = f"{self._path}/issues/{number}/comments"
        self._api.write("POST", path, {"body": body}, doing=f"commenting on #{number}", repeatable=False)

    def edit_note(self, number: int, note: int, body: str) -> None:
        """Change a comment."""
        path = f"{self._path}/issues/comments/{note}"
        self._api.write(
            "PATCH", path, {"body": body}, doing=f"updating our comment on #{number}", repeatable=True
        )

    def login(self) -> str:
        """Whom the token speaks for."""
        if self._login is None:
            self._login = self._api.read("user", doing="asking whom the token speaks for").text("login")
        return self._login

    def access(self) -> Access:
        """What the token's owner may do; the token's own scopes are not shown."""
        repository = self._api.read(self._path, doing="reading the repository")
        granted = repository.flag("permissions", "push")
        hint = "" if granted else _PERMISSIONS
        abilities = (
            Ability("see the repository", True),
            Ability("push the branch", granted, hint),
            Ability("open pull requests", granted, hint),
        )
        notes = (
            ("the repository is archived: nothing can be written to it",)
            if repository.flag("archived")
            else ()
        )
        return Access(self.login(), "Gitea token", abilities, notes)

    def close(self) -> None:
        """Release connections."""
        self._api.close()

    def _patch(self, number: int, body: object, what: str) -> Request:
        path = f"{self._path}/pulls/{number}"
        return _request(self._api.write("PATCH", path, body, doing=f"{what} #{number}", repeatable=True))

    def _is_ours(self, pull: Fields, branch: str) -> bool:
        home = pull.text_or("", "head", "repo", "full_name").lower()
        return pull.text("head", "ref") == branch and home == self._repository.lower()


def gitea(
    repository: str,
    token: Secret,
    *,
    git_url: str,
    api_url: str,
    identity: CommitIdentity | None = None,
    clock: Clock = Clock(),  # noqa: B008  frozen, and the real one
    transport: httpx.BaseTransport | None = None,
    progress: Progress = QUIET,
) -> HostedForge:
    """The forge of one repository `owner/name`; `api_url` ends in /api/v1. Raises UsageError."""
    from reconciler.net.client import HttpClient
    from reconciler.net.retry import NO_RETRY

    auth = Auth(Scheme.BEARER, token)
    http = HttpClient(api_url, name=GiteaHost.name, auth=auth, retry=NO_RETRY, transport=transport)
    api = RestApi(http, host_judge(repository, _PERMISSIONS), clock=clock, progress=progress)
    remote = GitRemote(GiteaHost.name, git_url, token, user="oauth2", identity=identity)
    return HostedForge(GiteaHost(api, repository), remote)


def _request(fields: Fields) -> Request:
    return Request(
        fields.number("number"),
        fields.text("html_url"),
        fields.text("state") == "open",
        fields.text("title"),
        fields.text_or("", "body"),
        fields.text("base", "ref"),
        fields.text_or("", "head", "sha"),
        frozenset(label.text("name") for label in fields.items_or_none("labels")),
    )
