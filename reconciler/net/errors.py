"""How a call to a peer can end badly, typed by what the caller may do next.

    PeerError
    └── RequestError
        ├── TransientError   may work when asked again: refused, reset, timed out, 5xx
        ├── RetryLaterError     the peer asks to be left alone for `retry_after` seconds
        ├── UnexpectedResponseError     it will not get better by itself: a person has to look at the peer
        ├── AccessDeniedError      the peer knows us not, or not for this
        ├── NotFoundError    it has no such thing
        ├── ConflictError    it has something else in this place
        └── RejectedError    it read the request and said no

What peers say is shown shortened, without control characters and without our secrets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from reconciler.errors import PeerError
from reconciler.net.auth import Secret

_SHOWN = 300  # characters of a peer's own words that a person gets to read


class RequestError(PeerError):
    """Base of all.

    `peer` is its name for the user; `status` the HTTP status, None when there was no answer.
    """

    #: whether the same call may succeed later without anyone doing anything
    may_retry: ClassVar[bool] = False

    def __init__(
        self, peer: str, message: str, *, hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(f"{peer}: {message}", hint=hint)
        self.peer = peer
        self.status = status


class TransientError(RequestError):
    """It may work when asked again.

    `reached` is False when certainly nothing of the request got there, `timed_out` is True when a time limit
    ended it.
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
    """The peer asks for a pause: `retry_after` seconds, None when it does not say how long."""

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
    """It will not get better by itself; the hint says what to look at."""


class ResponseTooLargeError(UnexpectedResponseError):
    """The body of a response is longer than the caller's limit."""


class AccessDeniedError(RequestError):
    """The peer knows us not, or not for this."""


class NotFoundError(RequestError):
    """The peer has no such thing."""


class ConflictError(RequestError):
    """The peer has something else in this place."""


class RejectedError(RequestError):
    """The peer read the request and said no. `reason` is its own wording, cleaned."""

    def __init__(
        self, peer: str, message: str, *, reason: str = "", hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(peer, message, hint=hint, status=status)
        self.reason = reason


def sanitize(text: str, secrets: Iterable[Secret] = (), limit: int = _SHOWN) -> str:
    """A peer's words, fit for a person: at most `limit` characters, one line, printable, no secret."""
    for secret in secrets:
        text = secret.redact(text)
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2  # programs wrap errors: the context comes first, the cause last
    return f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
