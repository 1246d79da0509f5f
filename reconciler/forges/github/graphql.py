"""GitHub's GraphQL API, for what REST cannot do: compare-and-swap of a branch, and "who am I"."""

from __future__ import annotations

from reconciler.forges.fields import Fields
from reconciler.forges.github.address import GitHubAddress
from reconciler.forges.github.errors import permission_hint
from reconciler.forges.rest import RestApi
from reconciler.net.errors import (
    AccessDeniedError,
    NotFoundError,
    RejectedError,
    RequestError,
    RetryLaterError,
    sanitize,
)


def graphql(
    api: RestApi, address: GitHubAddress, query: str, variables: object, *, doing: str, repeatable: bool
) -> Fields:
    """The `data` of a GraphQL call. Raises RequestError, also for the errors inside an answer of 200."""
    body = {"query": query, "variables": variables}
    answer = api.write("POST", address.graphql, body, doing=doing, repeatable=repeatable)
    for error in answer.items_or_none("errors"):
        raise _outcome(error, doing)
    return answer.at("data")


def _outcome(error: Fields, doing: str) -> RequestError:
    kind, words = error.text_or("", "type"), sanitize(error.text_or("it does not say why", "message"))
    said = f"while {doing}: {words}"
    if kind == "RATE_LIMITED" or "rate limit" in words.lower():
        return RetryLaterError(error.peer, f"limits our requests {said}", retry_after=None)
    if kind == "FORBIDDEN" or "not accessible by" in words.lower():
        return AccessDeniedError(
            error.peer, f"misses a permission of the token {said}", hint=permission_hint("")
        )
    if kind == "NOT_FOUND":
        return NotFoundError(error.peer, f"has no such thing {said}")
    return RejectedError(error.peer, f"did not accept this {said}", reason=words)
