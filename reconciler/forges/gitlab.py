"""GitLab: merge requests through its REST API (v4); the branch is moved by git."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from reconciler.forges.fields import Fields
from reconciler.forges.git_remote import GitRemote
from reconciler.forges.host_errors import host_judge
from reconciler.forges.hosted import HostedForge, Note, Request
from reconciler.forges.interface import Ability, Access, Clock, Proposal
from reconciler.forges.plumbing import CommitIdentity
from reconciler.forges.rest import RestApi
from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.net.errors import NotFoundError
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    import httpx

PUBLIC_API = "https://gitlab.com/api/v4"

_PERMISSIONS = (
    "the token needs the scopes api and write_repository, and its owner the role Developer or above"
)
_DEVELOPER = 30  # GitLab's number for the role that may push and open merge requests
_PAGES = 20


class GitLabHost:
    """One project's merge requests. Implements `Host`."""

    name = "GitLab"
    draft_prefix = "Draft: "

    def __init__(self, api: RestApi, project: str) -> None:
        self._api = api
        self._project = f"projects/{quote(project, safe='')}"
        self._id: int | None = None
        self._login: str | None = None

    def open_requests(self, branch: str) -> list[Request]:
        """The open merge requests from `branch` of this project; those of forks are another's."""
        params = [("state", "opened"), ("source_branch", branch), ("per_page", "100")]
        path = f"{self._project}/merge_requests"
        found = self._api.read(path, params=params, doing="looking for the merge request").items()
        return [
            _request(one)
            for one in found
            if one.number("source_project_id") == one.number("target_project_id")
        ]

    def create(self, proposal: Proposal, title: str) -> Request:
        """Open a merge request; never sent twice."""
        body: dict[str, object] = {
            "source_branch": proposal.branch,
            "target_branch": proposal.base,
            "title": title,
            "description": proposal.body,
            "remove_source_branch": True,
        }
        if proposal.labels:
            body["labels"] = ",".join(proposal.labels)
        path = f"{self._project}/merge_requests"
        return _request(
            self._api.write("POST", path, body, doing="opening the merge request", repeatable=False)
        )

    def request_reviews(self, number: int, names: tuple[str, ...]) -> None:
        """Ask people for a review; GitLab knows no teams here.

        Raises NotFoundError for a name it does not know.
        """
        self._put(number, {"reviewer_ids": [self._user_id(name) for name in names]}, "asking for reviews of")

    def edit(self, number: int, title: str, body: str, base: str) -> Request:
        """Change what an open merge request says."""
        return self._put(number, {"title": title, "description": body, "target_branch": base}, "updating")

    def add_labels(self, number: int, labels: list[str]) -> None:
        """Put labels on it; GitLab makes those that do not exist."""
        self._put(number, {"add_labels": ",".join(labels)}, "labelling")

    def close_request(self, number: int) -> None:
        """Close it without merging."""
        self._put(number, {"state_event": "close"}, "closing")

    def notes(self, number: int) -> list[Note]:
        """The comments on it."""
        found: list[Note] = []
        for page in range(1, _PAGES + 1):
            path = f"{self._project}/merge_requests/{number}/notes"
            params = [("per_page", "100"), ("page", str(page)), ("sort", "asc")]
            notes = list(
                self._api.read(path, params=params, doing=f"reading the comments on !{number}").items()
            )
            found += [
                Note(one.number("id"), one.text("author", "username"), one.text("body")) for one in notes
            ]
            if len(notes) < 100:
                break
        return found

    def add_note(self, number: int, body: str) -> None:
        """Comment; never sent twice."""
        path = f"{self._project}/merge_requests/{number}/notes"
        self._api.write("POST", path, {"body": body}, doing=f"commenting on !{number}", repeatable=False)

    def edit_note(self, number: int, note: int, body: str) -> None:
        """Change a comment."""
        path = f"{self._project}/merge_requests/{number}/notes/{note}"
        self._api.write(
            "PUT", path, {"body": body}, doing=f"updating our comment on !{number}", repeatable=True
        )

    def login(self) -> str:
        """Whom the token speaks for."""
        if self._login is None:
            self._login = self._api.read("user", doing="asking whom the token speaks for").text("username")
        return self._login

    def access(self) -> Access:
        """What the token may do, by its owner's role; the token's own scopes are not shown to every token."""
        project = self._api.read(self._project, doing="reading the project")
        levels = [
            project.number("permissions", kind, "access_level")
            for kind in ("project_access", "group_access")
            if project.has("permissions", kind)
        ]
        granted = max(levels, default=0) >= _DEVELOPER
        hint = "" if granted else _PERMISSIONS
        abilities = (
            Ability("see the project", True),
            Ability("push the branch", granted, hint),
            Ability("open merge requests", granted, hint),
        )
        notes = ("the project is archived: nothing can be written to it",) if project.flag("archived") else ()
        return Access(self.login(), "GitLab token", abilities, notes)

    def close(self) -> None:
        """Release connections."""
        self._api.close()

    def _put(self, number: int, body: object, what: str) -> Request:
        path = f"{self._project}/merge_requests/{number}"
        return _request(self._api.write("PUT", path, body, doing=f"{what} !{number}", repeatable=True))

    def _user_id(self, name: str) -> int:
        found = self._api.read(
            "users", params=[("username", name)], doing=f"looking for the reviewer {name!r}"
        )
        for one in found.items():
            return one.number("id")
        raise NotFoundError(
            self.name, f"has no user {name!r} who could review", hint="correct the reviewers' names"
        )


def gitlab(
    project: str,
    token: Secret,
    *,
    git_url: str,
    api_url: str = PUBLIC_API,
    identity: CommitIdentity | None = None,
    clock: Clock = Clock(),  # noqa: B008  frozen, and the real one
    transport: httpx.BaseTransport | None = None,
    progress: Progress = QUIET,
) -> HostedForge:
    """The forge of one GitLab project: `group/name`, and the address that git pushes to.

    Raises UsageError.
    """
    from reconciler.net.client import HttpClient
    from reconciler.net.retry import NO_RETRY

    auth = Auth(Scheme.BEARER, token)
    http = HttpClient(api_url, name=GitLabHost.name, auth=auth, retry=NO_RETRY, transport=transport)
    api = RestApi(http, host_judge(project, _PERMISSIONS), clock=clock, progress=progress)
    remote = GitRemote(GitLabHost.name, git_url, token, user="oauth2", identity=identity)
    return HostedForge(GitLabHost(api, project), remote)


def _request(fields: Fields) -> Request:
    return Request(
        fields.number("iid"),
        fields.text("web_url"),
        fields.text("state") == "opened",
        fields.text("title"),
        fields.text_or("", "description"),
        fields.text("target_branch"),
        fields.text_or("", "sha"),
        frozenset(str(label.value) for label in fields.items_or_none("labels")),
    )
