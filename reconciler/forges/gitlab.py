"""GitLab: merge requests through its REST API (v4), branches through git."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from reconciler.forges.git_remote import GitRemote
from reconciler.forges.hosted_forge import HostedForge, PullRequest
from reconciler.forges.interface import Ability, Access, Clock, Proposal
from reconciler.forges.local_repository import CommitIdentity
from reconciler.forges.rest import ErrorClassifier, RestApi
from reconciler.forges.rest_host import RestHost
from reconciler.json_fields import JsonFields
from reconciler.net.auth import Secret
from reconciler.net.errors import NotFoundError
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    from reconciler.net.transport import Transport

PUBLIC_API = "https://gitlab.com/api/v4"

_PERMISSIONS = (
    "the token needs the scopes api and write_repository, and its owner the role Developer or above"
)
_DEVELOPER = 30  # GitLab's number for the role that may push and open merge requests


class GitLabHost(RestHost):
    """The merge requests of one project. Implements `Host`."""

    name = "GitLab"
    draft_prefix = "Draft: "
    sign = "!"
    update_method = "PUT"
    login_field = "username"
    author_field = "author"
    comments_path = "merge_requests/{number}/notes"
    comment_path = "merge_requests/{number}/notes/{comment}"

    def open_requests(self, branch: str) -> list[PullRequest]:
        """As `Host.open_requests`."""
        params = [("state", "opened"), ("source_branch", branch)]
        path, doing = f"{self._root}/merge_requests", "finding the merge request"
        return _own_requests(self.api.read_pages(path, doing=doing, params=params))

    def closed_requests(self, branch: str) -> list[PullRequest]:
        """As `Host.closed_requests`."""
        params = [("state", "all"), ("source_branch", branch), ("per_page", "100")]
        path, doing = f"{self._root}/merge_requests", "finding closed merge requests"
        listed = self.api.read(path, doing=doing, params=params).items()
        return [one for one in _own_requests(listed) if not one.open]

    def create(self, proposal: Proposal, title: str) -> PullRequest | None:
        """As `Host.create`."""
        body: dict[str, object] = {
            "source_branch": proposal.branch,
            "target_branch": proposal.base,
            "title": title,
            "description": proposal.body,
            "remove_source_branch": True,
        }
        if proposal.labels:
            body["labels"] = ",".join(proposal.labels)
        path, doing = f"{self._root}/merge_requests", "opening the merge request"
        return _parse_merge_request(self.api.write("POST", path, body, doing=doing, repeatable=False))

    def update(self, number: int, title: str, body: str, base: str) -> PullRequest:
        """As `Host.update`."""
        return self._put(number, {"title": title, "description": body, "target_branch": base}, "updating")

    def close_request(self, number: int) -> None:
        """As `Host.close_request`."""
        self._put(number, {"state_event": "close"}, "closing")

    def add_labels(self, number: int, labels: list[str]) -> None:
        """As `Host.add_labels`; GitLab creates those that do not exist."""
        self._put(number, {"add_labels": ",".join(labels)}, "labelling")

    def request_reviews(self, number: int, names: list[str]) -> None:
        """As `Host.request_reviews`; GitLab has no teams here. Raises NotFoundError for an unknown user."""
        self._put(number, {"reviewer_ids": [self._user_id(name) for name in names]}, "requesting reviews of")

    def access(self) -> Access:
        """Return what the token may do by its owner's role; not every token may read its own scopes."""
        project = self.api.read(self._root, doing="reading the project")
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
        archived = "the project is archived: nothing can be written to it"
        return Access(
            self.login(), "GitLab token", abilities, (archived,) if project.flag("archived") else ()
        )

    def _put(self, number: int, body: object, verb: str) -> PullRequest:
        path, doing = f"{self._root}/merge_requests/{number}", f"{verb} merge request !{number}"
        return _parse_merge_request(self.api.write("PUT", path, body, doing=doing, repeatable=True))

    def _read_comments(self, number: int, doing: str) -> Iterator[JsonFields]:
        path = self._path(self.comments_path, number=number)
        return self.api.read_pages(path, doing=doing, params=[("sort", "asc")])

    def _user_id(self, name: str) -> int:
        doing = f"finding the reviewer {name!r}"
        for one in self.api.read("users", params=[("username", name)], doing=doing).items():
            return one.number("id")
        raise NotFoundError(self.name, f"no user {name!r}", hint="correct the names of the reviewers")


def gitlab(
    project: str,
    token: Secret,
    *,
    git_url: str,
    api_url: str = PUBLIC_API,
    identity: CommitIdentity | None = None,
    clock: Clock = Clock(),  # noqa: B008 - frozen
    transport: Transport | None = None,
    progress: Progress = QUIET,
) -> HostedForge:
    """Return the forge of the project `group/name`; git pushes to `git_url`. Raises UsageError."""
    classify = ErrorClassifier(project, _PERMISSIONS)
    api = RestApi(
        GitLabHost.name, api_url, token, classify, clock=clock, transport=transport, progress=progress
    )
    remote = GitRemote(GitLabHost.name, git_url, token, identity=identity)
    return HostedForge(GitLabHost(api, f"projects/{quote(project, safe='')}"), remote)


def _own_requests(listed: Iterator[JsonFields]) -> list[PullRequest]:
    """Return the merge requests whose branch is in the project itself, and not in a fork."""
    return [
        _parse_merge_request(one)
        for one in listed
        if one.number("source_project_id") == one.number("target_project_id")
    ]


def _parse_merge_request(fields: JsonFields) -> PullRequest:
    return PullRequest(
        number=fields.number("iid"),
        url=fields.text("web_url"),
        open=fields.text("state") == "opened",
        title=fields.text("title"),
        body=fields.text_or("", "description"),
        base=fields.text("target_branch"),
        head=fields.text_or("", "sha"),
        labels=frozenset(fields.texts("labels")),
        merged=fields.text("state") == "merged",
    )
