"""Refusals of GitLab and Gitea, turned into what a person can do about them."""

from __future__ import annotations

import json
from collections.abc import Callable

from reconciler.net import response as plain
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    RejectedError,
    RequestError,
    RetryLaterError,
    sanitize,
)
from reconciler.net.response import Response
from reconciler.net.retry import retry_after


def host_judge(repository: str, permissions: str) -> Callable[[Response, str], RequestError]:
    """The judge of answers about `repository`; `permissions` says what its token needs, worded for a user."""

    def judge(answer: Response, doing: str) -> RequestError:
        words = _words(answer)
        at = f"(HTTP {answer.status}) while {doing}"
        said = f"{at}: {words}" if words else at
        peer, status = answer.peer, answer.status
        match status:
            case 401:
                hint = "the token is wrong, expired or revoked: make a new one and set it again"
                return AccessDeniedError(peer, f"does not accept the token {said}", hint=hint, status=status)
            case 403:
                return AccessDeniedError(peer, f"refuses this {said}", hint=permissions, status=status)
            case 404:
                hint = f"is {repository!r} right, and may the token see it?"
                return NotFoundError(peer, f"has no such thing {said}", hint=hint, status=status)
            case 409:
                return ConflictError(
                    peer, f"is in conflict with this {said}", hint="run again", status=status
                )
            case 400 | 405 | 413 | 422 | 423:
                return RejectedError(peer, f"did not accept this {said}", reason=words, status=status)
            case 429:
                pause = retry_after(answer.headers.get("retry-after"))
                return RetryLaterError(peer, f"limits our requests {said}", retry_after=pause, status=status)
        return plain.error_for_status(answer)

    return judge


def _words(answer: Response) -> str:
    """What it says: `message` is a text, a list, or a table of lists (GitLab), beside `error`."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return answer.words
    if not isinstance(value, dict):
        return answer.words
    message = value.get("message") or value.get("error") or value.get("error_description") or ""
    return sanitize(message if isinstance(message, str) else json.dumps(message), answer.secrets)
