"""Where the parts of one GitHub are: its REST API, its GraphQL API, its pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from reconciler.errors import UsageError
from reconciler.net.address import parse_address

_REPOSITORY = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,99})/[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class GitHubAddress:
    """`base` is what both APIs share; `rest` and `graphql` are paths below it; `pages` is for people."""

    base: str
    rest: str
    graphql: str
    pages: str
    repository: str

    @classmethod
    def of(cls, api_url: str, repository: str) -> GitHubAddress:
        """From the URL that GitHub calls its API URL, and `owner/name`. Raises UsageError.

        GitHub Enterprise Server has REST below /api/v3 and GraphQL at /api/graphql; everyone else has REST at
        the top of a host named api.… and GraphQL at /graphql.
        """
        if not _REPOSITORY.fullmatch(repository) or repository.endswith(("/.", "/..")):
            raise UsageError(f"{repository!r} names no repository", hint="it is written owner/name")
        base = parse_address(api_url, "the address of GitHub").text
        parts = urlsplit(base)
        if parts.path.endswith("/api/v3"):
            shared = base.removesuffix("/v3")
            return cls(shared, "v3/", "graphql", shared.removesuffix("/api"), repository)
        pages = urlunsplit(parts._replace(netloc=parts.netloc.removeprefix("api.")))
        return cls(base, "", "graphql", pages, repository)

    @property
    def owner(self) -> str:
        """Who the repository belongs to."""
        return self.repository.partition("/")[0]

    def path(self, *parts: str) -> str:
        """The REST path of something in the repository; each part is one segment, slashes and all."""
        return f"{self.rest}repos/{self.repository}" + "".join(f"/{quote(part, safe='.')}" for part in parts)

    def compare_page(self, base: str, branch: str) -> str:
        """The page on which a person can open the pull request by hand."""
        return f"{self.pages}/{self.repository}/compare/{quote(base)}...{quote(branch)}?expand=1"
