"""A peer's whole answer, and how it is read as JSON without believing that it is.

The error that an unexpected HTTP status stands for.

Streamed request bodies: a known length, pieces on demand, and a multipart file part around them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.net.auth import Secret
from reconciler.net.deadline import remaining
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    RejectedError,
    RequestError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
    sanitize,
)
from reconciler.net.retry import retry_after

_PROXY_HINT = "is this the address of the API, and not of a proxy or a login page?"


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. Header names are lower case; `body` is all of it, within the caller's limit."""

    peer: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: tuple[Secret, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace")

    @property
    def words(self) -> str:
        """The body, or the reason in its JSON, fit for a person: one short line without secrets."""
        return sanitize(
            _reason(self.body) or ("" if is_html(self.headers, self.body) else self.text), self.secrets
        )

    def json(self, hook: Callable[[dict[str, object]], object] | None = None) -> object:
        """The body as one JSON value; `hook` replaces each object as it is read, as in `json.loads`.

        Raises UnexpectedResponseError for a web page, TransientError when it is cut off or no JSON.
        """
        return parse_json(self.peer, self.headers, self.body, hook)

    def json_lines(self) -> Iterator[object]:
        """The body as JSON values, one a line (NDJSON); an empty body has none. Raises as `json` does."""
        for line in self.body.splitlines():
            if line.strip():
                yield parse_json(self.peer, self.headers, line)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is being read; its connection ends with the context manager that gave it.

    `pieces` gives the body as it comes, once, up to the bytes it is called with. It raises TransientError
    when the body breaks off, UnexpectedResponseError when it is longer.
    """

    status: int
    headers: Mapping[str, str]
    pieces: Callable[[int], Iterator[bytes]]


def parse_json(
    peer: str,
    headers: Mapping[str, str],
    body: bytes,
    hook: Callable[[dict[str, object]], object] | None = None,
) -> object:
    """`body` as JSON.

    Raises UnexpectedResponseError for a web page, TransientError when it is cut off or no JSON at all.
    """
    if is_html(headers, body):
        raise UnexpectedResponseError(
            peer, "answered with a web page where JSON was expected", hint=_PROXY_HINT
        )
    try:
        value: object = json.loads(body, object_hook=hook)
    except (ValueError, RecursionError):
        raise TransientError(
            peer, "answered with something that is not JSON, or was cut off", hint=_PROXY_HINT
        ) from None
    return value


def is_html(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer is a web page, by its type or its first bytes."""
    return headers.get("content-type", "").lower().startswith("text/html") or body[:64].lstrip()[:1] == b"<"


def _reason(body: bytes) -> str:
    """The wording in the JSON error shapes of the peers we know (Kubo, cluster, pinning services), or ""."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for keys in (("Message",), ("message",), ("error", "details"), ("error", "reason"), ("error",)):
        found = _dig(value, keys)
        if isinstance(found, str) and found:
            return found
    return ""


def _dig(value: object, keys: Iterable[str]) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def error_for_status(answer: Response, *, is_command_error: bool = False) -> RequestError:
    """Return the error for an answer with a status that its caller does not expect.

    `is_command_error`: the peer executed the command and it failed, so it must not be sent again.
    """
    peer, status, words = answer.peer, answer.status, answer.words
    said = f": {words}" if words else ""
    pause = retry_after(answer.headers.get("retry-after"))
    if is_command_error:
        return RejectedError(peer, words or f"said no (HTTP {status})", reason=words, status=status)
    if 300 <= status < 400:
        target = sanitize(answer.headers.get("location", "nowhere"), answer.secrets)
        hint = "set the address at which it wants to be asked"
        return UnexpectedResponseError(
            peer, f"redirects to {target!r}, which is not followed", status=status, hint=hint
        )
    if status == 429 or (status == 503 and pause is not None):
        return RetryLaterError(
            peer, f"asks for a pause (HTTP {status}){said}", retry_after=pause, status=status
        )
    if status in (401, 403, 407):
        hint = (
            "check the secret and what it permits" if answer.secrets else "it wants a secret: set token_env"
        )
        return AccessDeniedError(peer, f"denies access (HTTP {status}){said}", status=status, hint=hint)
    if status == 404:
        return NotFoundError(peer, f"has no such thing (HTTP 404){said}", status=status)
    if status == 409:
        return ConflictError(peer, f"is in conflict with this (HTTP 409){said}", status=status)
    if status >= 500 or status in (408, 425):
        return TransientError(peer, f"failed (HTTP {status}){said}", status=status)
    too_large = "a proxy in front of it limits request bodies; in nginx, set client_max_body_size 0"
    return RejectedError(
        peer,
        f"did not accept the request (HTTP {status}){said}",
        status=status,
        reason=words,
        hint=too_large if status == 413 else None,
    )


PIECE = 1 << 20  #: bytes; larger pieces make httpx slow, because it slices each one again and again


@dataclass(frozen=True, slots=True)
class UploadBody:
    """A body of exactly `size` bytes; `pieces` makes it anew each time, so that it can be sent again."""

    size: int
    pieces: Callable[[], Iterator[bytes]]
    content_type: str = "application/octet-stream"


class Counted:
    """An upload on its way, which knows whether all of it went out."""

    def __init__(self, upload: UploadBody) -> None:
        self._upload = upload
        self._sent = 0

    @property
    def complete(self) -> bool:
        """Whether every byte was handed to the connection."""
        return self._sent == self._upload.size

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._upload.pieces():
            remaining()
            yield piece
            self._sent += len(piece)


def multipart_file(filename: str, upload: UploadBody, *, field: str = "file") -> UploadBody:
    """`upload` as the only part of a multipart/form-data body (RFC 7578), still of known length."""
    boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
        f"Content-Type: {upload.content_type}\r\n\r\n"
    ).encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")

    def pieces() -> Iterator[bytes]:
        yield head
        yield from upload.pieces()
        yield tail

    size = len(head) + upload.size + len(tail)
    return UploadBody(size, pieces, f"multipart/form-data; boundary={boundary}")
