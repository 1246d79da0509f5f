"""GitHub's refusals, each turned into what a person can do about it.

The wordings are GitHub's own, as its users meet them; a status alone does not tell a missing permission from
a setting, a limit or a race.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from reconciler.net import response as plain
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    RejectedError,
    RequestError,
    RetryLaterError,
    UnexpectedResponseError,
    sanitize,
)
from reconciler.net.response import Response
from reconciler.net.retry import retry_after

ACTIONS_SETTING = (
    "Settings > Actions > General > Workflow permissions: "
    "tick 'Allow GitHub Actions to create and approve pull requests'"
)


def github_judge(repository: str, now: Callable[[], float]) -> Callable[[Response, str], RequestError]:
    """The judge of answers about `repository`; `now` is seconds since 1970."""

    def judge(answer: Response, doing: str) -> RequestError:
        words = _words(answer)
        at = f"(HTTP {answer.status}) while {doing}"
        said = f"{at}: {words}" if words else at
        peer, status = answer.peer, answer.status
        limited = _limited(answer, words, now)
        if limited is not None:
            return RetryLaterError(
                peer,
                f"limits our requests {said}",
                retry_after=limited.pause,
                hint=_later(limited.pause),
                status=status,
            )
        if status == 401:
            hint = "the token is wrong, expired or revoked: make a new one and set it again"
            return AccessDeniedError(peer, f"does not accept the token {said}", hint=hint, status=status)
        if status == 403:
            return _forbidden(answer, words, said)
        if status in (404, 410):
            hint = f"is {repository!r} right, and may the token see it? GitHub hides what a token may not see"
            return NotFoundError(peer, f"has no such thing {said}", hint=hint, status=status)
        if status == 409:
            hint = "push a first commit to it" if "empty" in words.lower() else "run again"
            return ConflictError(peer, f"is in conflict with this {said}", hint=hint, status=status)
        if status == 422:
            return RejectedError(
                peer, f"did not accept this {said}", reason=words, hint=_advice(words), status=status
            )
        if 300 <= status < 400:
            hint = f"the repository {repository!r} was renamed or moved: use its new name"
            return UnexpectedResponseError(peer, f"redirects {at}", hint=hint, status=status)
        error = plain.error_for_status(answer)
        error.message = error.args[0] if not words else f"{peer}: failed {said}"
        return error

    return judge


def says(error: RequestError, *wordings: str) -> bool:
    """Whether a refusal carries one of GitHub's wordings."""
    return isinstance(error, RejectedError) and any(word in error.reason.lower() for word in wordings)


class _Limit:
    def __init__(self, pause: float | None) -> None:
        self.pause = pause


def _limited(answer: Response, words: str, now: Callable[[], float]) -> _Limit | None:
    """The pause asked for, looked up in the order GitHub says: retry-after, the reset, else a minute."""
    if answer.status not in (403, 429):
        return None
    pause = retry_after(answer.headers.get("retry-after"))
    if pause is not None:
        return _Limit(pause)
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isascii() and reset.isdigit():
        return _Limit(max(0.0, float(reset[:12]) - now()) + 1)
    if answer.status == 429 or "rate limit" in words.lower() or "abuse" in words.lower():
        return _Limit(None)
    return None


def _later(pause: float | None) -> str:
    """For the case that the pause is too long for a run, or that it did not help."""
    return "run again later" if pause is None else f"run again in {max(1, math.ceil(pause / 60))} min"


def _forbidden(answer: Response, words: str, said: str) -> AccessDeniedError:
    lower = words.lower()
    accepted = sanitize(answer.headers.get("x-accepted-github-permissions", ""))
    if "not permitted to create or approve pull requests" in lower:
        text, hint = "lets its Actions open no pull request", ACTIONS_SETTING
    elif "not accessible by" in lower:
        text, hint = "misses a permission of the token", permission_hint(accepted)
    elif "saml" in lower:
        address = answer.headers.get("x-github-sso", "").partition("url=")[2]
        where = sanitize(address, answer.secrets) or "your token's settings: Configure SSO"
        text, hint = "wants the token authorized for single sign-on", f"authorize it at {where}"
    elif "archived" in lower:
        text, hint = "keeps this repository read-only", "unarchive it: Settings > General > Unarchive"
    else:
        text, hint = "refuses this", "look at the token's permissions and the rules of the branch"
    return AccessDeniedError(answer.peer, f"{text} {said}", hint=hint, status=answer.status)


def permission_hint(accepted: str) -> str:
    """Where to grant what is missing; `accepted` is GitHub's own list from a header, "" when it sent none."""
    named = accepted.replace("_", "-").replace("=", ": ")
    needs = named or "contents: write, pull-requests: write and issues: write"
    return f"grant {needs} (a workflow: under `permissions:`; otherwise: in the token's or App's settings)"


def _advice(words: str) -> str | None:
    lower = words.lower()
    if "protected" in lower or "rule violations" in lower:
        return "let this actor past the rule: Settings > Rules, or Settings > Branches"
    if "head invalid" in lower:
        return "the branch is gone, perhaps deleted meanwhile: run again"
    if "base invalid" in lower:
        return "name an existing branch as the base"
    if "draft" in lower:
        return "open it as no draft"
    if "too long" in lower or "too large" in lower:
        return "propose fewer versions at once with --only"
    return None


def _words(answer: Response) -> str:
    """The message and the messages of its details, which say more than it does."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return answer.words
    if not isinstance(value, dict):
        return answer.words
    details = value.get("errors")
    texts = [value.get("message")]
    for detail in details if isinstance(details, list) else [details]:
        if isinstance(detail, dict):
            texts.append(
                detail.get("message")
                or " ".join(str(part) for part in (detail.get("field"), detail.get("code")) if part)
            )
        else:
            texts.append(detail)
    return sanitize("; ".join(text for text in texts if isinstance(text, str) and text), answer.secrets)
