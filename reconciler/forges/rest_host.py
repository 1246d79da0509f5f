"""The calls for pull requests and comments that REST APIs of forges have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from reconciler.forges.hosted_forge import Comment, PullRequest
from reconciler.forges.rest import RestApi
from reconciler.json_fields import JsonFields

_TEAM = "team:"


class RestHost:
    """Comments on the pull requests of one repository, which is below the path `root` of `api`.

    A base of `Host` implementations; the class variables are what differs between the APIs.
    """

    sign: ClassVar[str] = "#"  #: what stands before the number of a pull request
    update_method: ClassVar[str] = "PATCH"
    login_field: ClassVar[str] = "login"
    author_field: ClassVar[str] = "user"
    comments_path: ClassVar[str] = "issues/{number}/comments"
    comment_path: ClassVar[str] = "issues/comments/{comment}"

    def __init__(self, api: RestApi, root: str) -> None:
        self.api = api
        self._root = root
        self._login: str | None = None

    def login(self) -> str:
        """Return the name of the token's account."""
        if self._login is None:
            self._login = self._read_login()
        return self._login

    def own_comments(self, number: int) -> Iterator[Comment]:
        """As `Host.own_comments`."""
        me = self._account_names(self.login())
        for one in self._read_comments(number, f"reading the comments on {self.sign}{number}"):
            comment = one.number("id")  # raises when the response is not a list of comments
            if one.text_or("", self.author_field, self.login_field) in me:
                yield Comment(comment, one.text_or("", "body"))

    def create_comment(self, number: int, body: str) -> None:
        """As `Host.create_comment`."""
        doing = f"commenting on {self.sign}{number}"
        path = self._path(self.comments_path, number=number)
        self.api.write("POST", path, {"body": body}, doing=doing, repeatable=False)

    def update_comment(self, number: int, comment: int, body: str) -> None:
        """As `Host.update_comment`."""
        path = self._path(self.comment_path, number=number, comment=comment)
        doing = f"updating our comment on {self.sign}{number}"
        self.api.write(self.update_method, path, {"body": body}, doing=doing, repeatable=True)

    def _read_login(self) -> str:
        return self.api.read("user", doing="identifying the token's account").text(self.login_field)

    def _account_names(self, login: str) -> tuple[str, ...]:
        """Return the names under which comments of the account `login` appear."""
        return (login,)

    def _read_comments(self, number: int, doing: str) -> Iterator[JsonFields]:
        return self.api.read_pages(self._path(self.comments_path, number=number), doing=doing)

    def _path(self, template: str, **numbers: int) -> str:
        return f"{self._root}/{template.format(**numbers)}"


class PullsHost(RestHost):
    """Pull requests in the API of GitHub, which Gitea copied. `repository` is `owner/name`."""

    def __init__(self, api: RestApi, root: str, repository: str) -> None:
        super().__init__(api, root)
        self._repository = repository

    def update(self, number: int, title: str, body: str, base: str) -> PullRequest:
        """As `Host.update`."""
        return self._patch(number, {"title": title, "body": body, "base": base}, "updating")

    def close_request(self, number: int) -> None:
        """As `Host.close_request`."""
        self._patch(number, {"state": "closed"}, "closing")

    def add_labels(self, number: int, labels: list[str]) -> None:
        """As `Host.add_labels`."""
        self._post_labels(number, labels)

    def request_reviews(self, number: int, names: list[str]) -> None:
        """As `Host.request_reviews`."""
        body = {
            "reviewers": [name for name in names if not name.startswith(_TEAM)],
            "team_reviewers": [name.removeprefix(_TEAM) for name in names if name.startswith(_TEAM)],
        }
        path = f"{self._root}/pulls/{number}/requested_reviewers"
        self.api.write("POST", path, body, doing=f"requesting reviews of #{number}", repeatable=True)

    def _post_labels(self, number: int, labels: list[str]) -> JsonFields:
        path = f"{self._root}/issues/{number}/labels"
        return self.api.write("POST", path, {"labels": labels}, doing=f"labelling #{number}", repeatable=True)

    def _post_pull(self, body: object) -> PullRequest:
        path, doing = f"{self._root}/pulls", "opening the pull request"
        return parse_pull(self.api.write("POST", path, body, doing=doing, repeatable=False))

    def _patch(self, number: int, body: object, verb: str) -> PullRequest:
        path, doing = f"{self._root}/pulls/{number}", f"{verb} pull request #{number}"
        return parse_pull(self.api.write("PATCH", path, body, doing=doing, repeatable=True))

    def _pulls_of(self, branch: str, listed: Iterator[JsonFields]) -> list[PullRequest]:
        """Return the pull requests from `branch` of this repository; forks have branches of the same name."""
        return [
            parse_pull(one)
            for one in listed
            if one.text("head", "ref") == branch
            and one.text_or("", "head", "repo", "full_name").lower() == self._repository.lower()
        ]


def parse_pull(fields: JsonFields) -> PullRequest:
    """Return a pull request as GitHub and Gitea represent it. Raises UnexpectedResponseError."""
    teams = {f"{_TEAM}{team.text('slug')}" for team in fields.items_or_none("requested_teams")}
    return PullRequest(
        number=fields.number("number"),
        url=fields.text("html_url"),
        open=fields.text("state") == "open",
        title=fields.text("title"),
        body=fields.text_or("", "body"),
        base=fields.text("base", "ref"),
        head=fields.text_or("", "head", "sha"),
        labels=frozenset(label.text("name") for label in fields.items_or_none("labels")),
        reviewers=frozenset(one.text("login") for one in fields.items_or_none("requested_reviewers")) | teams,
        merged=bool(fields.text_or("", "merged_at")),
    )
