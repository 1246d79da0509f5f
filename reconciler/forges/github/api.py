"""The APIs of one GitHub repository: addresses, errors, and GraphQL calls.

GraphQL serves what REST cannot do: moving a branch by compare-and-swap, and the account of any token. The
wordings of errors are GitHub's own; a status alone does not distinguish a missing permission from a setting,
a rate limit or a race.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from reconciler.errors import UsageError
from reconciler.forges.rest import ErrorClassifier, RestApi, error_document
from reconciler.json_fields import JsonFields
from reconciler.net.address import parse_address
from reconciler.net.errors import (
    AccessDeniedError,
    NotFoundError,
    RejectedError,
    RequestError,
    RetryLaterError,
    sanitize,
)

if TYPE_CHECKING:
    from reconciler.net.response import Response

ACTIONS_SETTING = (
    "Settings > Actions > General > Workflow permissions: "
    "tick 'Allow GitHub Actions to create and approve pull requests'"
)

_REPOSITORY = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,99})/[A-Za-z0-9._-]{1,100}")
_PERMISSIONS = "contents: write, pull-requests: write and issues: write"


@dataclass(frozen=True, slots=True)
class GitHubAddress:
    """The addresses of one repository.

    `base` is the common part of both APIs; `rest` and `graphql` are paths below it; `pages` is the website.
    """

    base: str
    rest: str
    graphql: str
    pages: str
    repository: str

    @classmethod
    def of(cls, api_url: str, repository: str) -> GitHubAddress:
        """Derive the addresses from GitHub's API URL and `owner/name`. Raises UsageError.

        GitHub Enterprise Server serves REST below /api/v3 and GraphQL at /api/graphql; all others serve REST
        at the root of a host named api.… and GraphQL at /graphql.
        """
        if not _REPOSITORY.fullmatch(repository) or repository.endswith(("/.", "/..")):
            raise UsageError(f"invalid repository {repository!r}", hint="write it as owner/name")
        base = parse_address(api_url, "the address of GitHub").text
        parts = urlsplit(base)
        if parts.path.endswith("/api/v3"):
            shared = base.removesuffix("/v3")
            return cls(shared, "v3/", "graphql", shared.removesuffix("/api"), repository)
        pages = urlunsplit(parts._replace(netloc=parts.netloc.removeprefix("api.")))
        return cls(base, "", "graphql", pages, repository)

    @property
    def owner(self) -> str:
        """The account that owns the repository."""
        return self.repository.partition("/")[0]

    def path(self, *parts: str) -> str:
        """Return the REST path of a resource of the repository; each part is one segment, slashes escaped."""
        return f"{self.rest}repos/{self.repository}" + "".join(f"/{quote(part, safe='.')}" for part in parts)

    def compare_page(self, base: str, branch: str) -> str:
        """Return the page where a person can open the pull request."""
        return f"{self.pages}/{self.repository}/compare/{quote(base)}...{quote(branch)}?expand=1"


class GitHubErrors(ErrorClassifier):
    """The classifier of GitHub's errors; `now` returns seconds since 1970."""

    def __init__(self, repository: str, now: Callable[[], float]) -> None:
        super().__init__(repository, "check the token's permissions and the rules of the branch")
        self._now = now

    def message_of(self, response: Response) -> str:
        """Return the message of an error response, with the more specific messages of its details."""
        document = error_document(response)
        if not document:
            return response.message
        details = document.get("errors")
        texts = [document.get("message")]
        for detail in details if isinstance(details, list) else [details]:
            if isinstance(detail, dict):
                code = " ".join(str(part) for part in (detail.get("field"), detail.get("code")) if part)
                texts.append(detail.get("message") or code)
            else:
                texts.append(detail)
        return sanitize("; ".join(text for text in texts if isinstance(text, str) and text), response.secrets)

    def is_rate_limit(self, response: Response) -> bool:
        """Whether GitHub limits the rate of requests, by 403 or 429."""
        if response.status != 403:
            return super().is_rate_limit(response)
        message = self.message_of(response).lower()
        return "rate limit" in message or "abuse" in message or self.rate_limit_pause(response) is not None

    def rate_limit_pause(self, response: Response) -> float | None:
        """Return the seconds to wait, by the headers in the order that GitHub documents."""
        pause = super().rate_limit_pause(response)
        reset = response.headers.get("x-ratelimit-reset", "")
        exhausted = response.headers.get("x-ratelimit-remaining") == "0"
        if pause is None and exhausted and reset.isascii() and reset.isdigit():
            return max(0.0, float(reset[:12]) - self._now()) + 1
        return pause

    def describe_denial(self, response: Response) -> tuple[str, str]:
        """Return the message and the hint for a response of 403."""
        lower = self.message_of(response).lower()
        if "not permitted to create or approve pull requests" in lower:
            return "GitHub Actions must not create pull requests", ACTIONS_SETTING
        if "not accessible by" in lower:
            accepted = sanitize(response.headers.get("x-accepted-github-permissions", ""))
            return "the token lacks a permission", permission_hint(accepted)
        if "saml" in lower:
            address = response.headers.get("x-github-sso", "").partition("url=")[2]
            where = sanitize(address, response.secrets) or "your token's settings: Configure SSO"
            return "the token is not authorized for single sign-on", f"authorize it at {where}"
        return super().describe_denial(response)

    def rejection_hint(self, message: str) -> str | None:
        """Return the hint for a rejected request."""
        lower = message.lower()
        if "protected" in lower or "rule violations" in lower:
            return "let this actor bypass the rule: Settings > Rules, or Settings > Branches"
        if "head invalid" in lower:
            return "the branch does not exist, perhaps it was just deleted: run again"
        if "base invalid" in lower:
            return "name an existing branch as the base"
        if "draft" in lower:
            return "do not open it as a draft"
        return super().rejection_hint(message)


def graphql(
    api: RestApi, address: GitHubAddress, query: str, variables: object, *, doing: str, repeatable: bool
) -> JsonFields:
    """Send a GraphQL call and return its `data`.

    Raises RequestError, also for errors in a response of 200.
    """
    body = {"query": query, "variables": variables}
    response = api.write("POST", address.graphql, body, doing=doing, repeatable=repeatable)
    for error in response.items_or_none("errors"):
        raise _graphql_error(api.name, error, doing)
    return response.at("data")


def _graphql_error(peer: str, error: JsonFields, doing: str) -> RequestError:
    kind, message = error.text_or("", "type"), sanitize(error.text_or("no message", "message"))
    context = f"while {doing}: {message}"
    if kind == "RATE_LIMITED" or "rate limit" in message.lower():
        return RetryLaterError(peer, f"rate limit exceeded {context}", retry_after=None)
    if kind == "FORBIDDEN" or "not accessible by" in message.lower():
        return AccessDeniedError(peer, f"the token lacks a permission {context}", hint=permission_hint(""))
    if kind == "NOT_FOUND":
        return NotFoundError(peer, f"not found {context}")
    return RejectedError(peer, f"rejected the request {context}", reason=message)


def permission_hint(accepted: str) -> str:
    """Describe where to grant the missing permission.

    `accepted` is the value of GitHub's header x-accepted-github-permissions, "" when it sent none.
    """
    needs = accepted.replace("_", "-").replace("=", ": ") or _PERMISSIONS
    return f"grant {needs} (a workflow: under `permissions:`; otherwise: in the token's or App's settings)"
