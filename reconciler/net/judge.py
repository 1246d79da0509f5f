"""What an unexpected HTTP status means, as an outcome."""

from __future__ import annotations

from reconciler.net.outcomes import (
    Conflict,
    Denied,
    NotFound,
    Outcome,
    Rejected,
    Stalled,
    Transient,
    Waiting,
    clean,
)
from reconciler.net.response import Response
from reconciler.net.retry import retry_after


def outcome(answer: Response, *, rejected: bool = False) -> Outcome:
    """The error for an answer whose status its caller has no use for.

    `rejected` when it is a considered no.
    """
    peer, status, words = answer.peer, answer.status, answer.words
    said = f": {words}" if words else ""
    pause = retry_after(answer.headers.get("retry-after"))
    if rejected:
        return Rejected(peer, words or f"said no (HTTP {status})", reason=words, status=status)
    if 300 <= status < 400:
        target = clean(answer.headers.get("location", "nowhere"), answer.secrets)
        hint = "set the address at which it wants to be asked"
        return Stalled(peer, f"redirects to {target!r}, which is not followed", status=status, hint=hint)
    if status == 429 or (status == 503 and pause is not None):
        return Waiting(peer, f"asks for a pause (HTTP {status}){said}", retry_after=pause, status=status)
    if status in (401, 403, 407):
        hint = (
            "check the secret and what it permits" if answer.secrets else "it wants a secret: set token_env"
        )
        return Denied(peer, f"denies access (HTTP {status}){said}", status=status, hint=hint)
    if status == 404:
        return NotFound(peer, f"has no such thing (HTTP 404){said}", status=status)
    if status == 409:
        return Conflict(peer, f"is in conflict with this (HTTP 409){said}", status=status)
    if status >= 500 or status in (408, 425):
        return Transient(peer, f"failed (HTTP {status}){said}", status=status)
    too_large = "a proxy in front of it limits request bodies; in nginx, set client_max_body_size 0"
    return Rejected(
        peer,
        f"did not accept the request (HTTP {status}){said}",
        status=status,
        reason=words,
        hint=too_large if status == 413 else None,
    )
