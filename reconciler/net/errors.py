"""Errors of requests to peers, classified by what the caller may do next.

    PeerError
    └── RequestError
        ├── TransientError             may succeed when retried: refused, reset, timed out, 5xx
        ├── RetryLaterError            the peer requests a pause of `retry_after` seconds
        ├── UnexpectedResponseError    the peer broke the protocol; retrying will not help
        ├── AccessDeniedError          authentication or authorization failed
        ├── NotFoundError              the peer does not have the resource
        ├── ConflictError              the peer has another resource in this place
        └── RejectedError              the peer understood the request and refused or failed to execute it

Texts from peers are shown shortened, without control characters and without our secrets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from reconciler.errors import PeerError
from reconciler.net.auth import Secret
from reconciler.redaction import hide_secrets

_SHOWN = 300  # characters of a peer's text in a message


class RequestError(PeerError):
    """Base of all errors of requests.

    `peer` is the peer's name for the user; `status` the HTTP status, None when there was no response.
    """

    #: whether the same call may succeed later without any other change
    may_retry: ClassVar[bool] = False

    def __init__(
        self, peer: str, message: str, *, hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(f"{peer}: {message}", hint=hint)
        self.peer = peer
        self.status = status


class TransientError(RequestError):
    """The request may succeed when retried.

    `reached` is False when certainly nothing of the request reached the peer; `timed_out` is True when a time
    limit ended it.
    """

    may_retry = True

    def __init__(
        self,
        peer: str,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        reached: bool = True,
        timed_out: bool = False,
    ) -> None:
        super().__init__(peer, message, hint=hint, status=status)
        self.reached = reached
        self.timed_out = timed_out


class RetryLaterError(RequestError):
    """The peer requests a pause of `retry_after` seconds; None when it does not give a time."""

    may_retry = True

    def __init__(
        self,
        peer: str,
        message: str,
        *,
        retry_after: float | None,
        hint: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(peer, message, hint=hint, status=status)
        self.retry_after = retry_after


class UnexpectedResponseError(RequestError):
    """The peer broke the protocol; retrying will not help. The hint says what to check."""


class ResponseTooLargeError(UnexpectedResponseError):
    """The body of a response is longer than the caller's limit."""


class AccessDeniedError(RequestError):
    """Authentication or authorization failed."""


class NotFoundError(RequestError):
    """The peer does not have the resource."""


class ConflictError(RequestError):
    """The peer has another resource in this place."""


class RejectedError(RequestError):
    """The peer understood the request and refused it, or failed; `reason` is its text, sanitized."""

    def __init__(
        self, peer: str, message: str, *, reason: str = "", hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(peer, message, hint=hint, status=status)
        self.reason = reason


def sanitize(text: str, secrets: Iterable[Secret] = (), limit: int = _SHOWN) -> str:
    """Sanitize a peer's text for display: one printable line, at most `limit` characters, no secret."""
    for secret in secrets:
        text = secret.redact(text)
    text = hide_secrets(text)
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2  # programs wrap errors: the context comes first, the cause last
    return f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
