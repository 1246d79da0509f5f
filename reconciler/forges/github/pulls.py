"""Pull requests of a GitHub repository."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.forges.fields import Fields
from reconciler.forges.github.address import GitHubAddress
from reconciler.forges.interface import Proposal
from reconciler.forges.rest import RestApi

_PAGES = 10  # of a hundred open pull requests each; beyond that the filter has to do
_TEAM = "team:"


@dataclass(frozen=True, slots=True)
class Pull:
    """One pull request; `number` and `url` are for people too."""

    number: int
    url: str
    open: bool
    title: str
    body: str
    base: str
    head: str
    labels: frozenset[str]
    reviewers: frozenset[str]

    def says(self, proposal: Proposal) -> bool:
        """Whether title, body and base are as proposed (a body edited in a browser has CRLF)."""
        same_body = self.body.replace("\r\n", "\n").strip() == proposal.body.strip()
        return self.title == proposal.title.strip() and same_body and self.base == proposal.base


class Pulls:
    """The pull requests of one repository. Every method raises RequestError."""

    def __init__(self, api: RestApi, address: GitHubAddress) -> None:
        self._api = api
        self._address = address

    def open_one(self, branch: str, base: str) -> Pull | None:
        """The open pull request of our branch; when people made several, the one into `base`."""
        return self._choose(self._page(("head", f"{self._address.owner}:{branch}")), branch, base)

    def open_one_by_paging(self, branch: str, base: str) -> Pull | None:
        """The same without GitHub's filter by head, which misses some pull requests of forks."""
        for page in range(1, _PAGES + 1):
            pulls = self._page(("page", str(page)))
            found = self._choose(pulls, branch, base)
            if found is not None or len(pulls) < 100:
                return found
        return None

    def create(self, proposal: Proposal) -> Pull:
        """Open the pull request. Never sent twice: look for it before another try."""
        body = {
            "title": proposal.title,
            "body": proposal.body,
            "head": proposal.branch,
            "base": proposal.base,
            "draft": proposal.draft,
            "maintainer_can_modify": True,
        }
        path = self._address.path("pulls")
        return self._pull(
            self._api.write("POST", path, body, doing="opening the pull request", repeatable=False)
        )

    def edit(self, number: int, proposal: Proposal) -> Pull:
        """Make an open pull request say what is proposed."""
        body = {"title": proposal.title, "body": proposal.body, "base": proposal.base}
        return self._patch(number, body, f"updating pull request #{number}")

    def close(self, number: int) -> Pull:
        """Close a pull request without merging it."""
        return self._patch(number, {"state": "closed"}, f"closing pull request #{number}")

    def add_labels(self, number: int, labels: list[str]) -> None:
        """Put labels on a pull request; GitHub makes those that do not exist."""
        path = self._address.path("issues", str(number), "labels")
        self._api.write("POST", path, {"labels": labels}, doing=f"labelling #{number}", repeatable=True)

    def request_reviews(self, number: int, names: list[str]) -> None:
        """Ask people and teams (`team:NAME`) for a review."""
        body = {
            "reviewers": [name for name in names if not name.startswith(_TEAM)],
            "team_reviewers": [name.removeprefix(_TEAM) for name in names if name.startswith(_TEAM)],
        }
        path = self._address.path("pulls", str(number), "requested_reviewers")
        self._api.write("POST", path, body, doing=f"asking for reviews of #{number}", repeatable=True)

    def _patch(self, number: int, body: object, doing: str) -> Pull:
        path = self._address.path("pulls", str(number))
        return self._pull(self._api.write("PATCH", path, body, doing=doing, repeatable=True))

    def _page(self, filtered: tuple[str, str]) -> list[Fields]:
        params = [("state", "open"), filtered, ("per_page", "100")]
        path = self._address.path("pulls")
        return list(self._api.read(path, params=params, doing="looking for the pull request").items())

    def _choose(self, listed: list[Fields], branch: str, base: str) -> Pull | None:
        ours = self._address.repository.lower()
        pulls = [
            self._pull(one)
            for one in listed
            if one.text("head", "ref") == branch
            and one.text_or("", "head", "repo", "full_name").lower() == ours
        ]
        return min(pulls, key=lambda pull: (pull.base != base, pull.number), default=None)

    def _pull(self, fields: Fields) -> Pull:
        teams = {f"{_TEAM}{team.text('slug')}" for team in fields.items_or_none("requested_teams")}
        return Pull(
            fields.number("number"),
            fields.text("html_url"),
            fields.text("state") == "open",
            fields.text("title"),
            fields.text_or("", "body"),
            fields.text("base", "ref"),
            fields.text("head", "sha"),
            frozenset(label.text("name") for label in fields.items_or_none("labels")),
            frozenset(person.text("login") for person in fields.items_or_none("requested_reviewers")) | teams,
        )
