"""Responses and request bodies: reading JSON, the error that a status stands for, uploads of known length."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.json_fields import JsonFields
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

_PROXY_HINT = "check that this is the address of the API, and not of a proxy or a login page"


@dataclass(frozen=True, slots=True)
class Response:
    """A response, read to its end. Header names are lower case; `body` is within the caller's limit."""

    peer: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: tuple[Secret, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def message(self) -> str:
        """The reason in the JSON of an error, or the whole body, sanitized; "" for a web page."""
        return sanitize(
            _reason(self.body) or ("" if _is_html(self.headers, self.body) else self.text), self.secrets
        )

    def json(self, hook: Callable[[dict[str, object]], object] | None = None) -> object:
        """Parse the body as one JSON value; `hook` replaces each object as it is read, as in `json.loads`.

        Raises UnexpectedResponseError for a web page, TransientError for anything else that is not JSON,
        because it may have been cut off.
        """
        return _parse_json(self.peer, self.headers, self.body, hook)

    def json_lines(self) -> Iterator[object]:
        """Iterate over the JSON values of the body, one per line (NDJSON). Raises as `json` does."""
        for line in self.body.splitlines():
            if line.strip():
                yield _parse_json(self.peer, self.headers, line)


@dataclass(frozen=True, slots=True)
class Stream:
    """A response whose body is being read; it is closed by the context manager that returned it.

    `pieces(limit)` iterates over the body as it arrives, once. It raises TransientError when the body breaks
    off, UnexpectedResponseError when it is longer than `limit` bytes.
    """

    status: int
    headers: Mapping[str, str]
    pieces: Callable[[int], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class OpenBody(Stream):
    """A response whose body its holder reads, and then closes with `close`, which may be called twice.

    Instead of iterating over `pieces`, `receive_into(memory)` fills the beginning of `memory`, and returns
    how many bytes it has received; 0 at the end. It raises TransientError when the body breaks off.
    """

    close: Callable[[], None]
    receive_into: Callable[[memoryview], int]


def _parse_json(
    peer: str,
    headers: Mapping[str, str],
    body: bytes,
    hook: Callable[[dict[str, object]], object] | None = None,
) -> object:
    """Parse the body of a response as JSON. Raises as `Response.json` does."""
    if _is_html(headers, body):
        raise UnexpectedResponseError(
            peer, "answered with a web page where JSON was expected", hint=_PROXY_HINT
        )
    try:
        value: object = json.loads(body, object_hook=hook)
    except (ValueError, RecursionError):
        raise TransientError(peer, "answered with invalid or truncated JSON", hint=_PROXY_HINT) from None
    return value


def peer_fields(peer: str, value: object, hint: str = _PROXY_HINT) -> JsonFields:
    """Return JSON of `peer` as JsonFields that raise UnexpectedResponseError, with `hint`."""

    def fail(message: str) -> UnexpectedResponseError:
        return UnexpectedResponseError(peer, f"answered with JSON in which {message}", hint=hint)

    return JsonFields(value, fail)


def _is_html(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a response is a web page, by its type or its first bytes."""
    return headers.get("content-type", "").lower().startswith("text/html") or body[:64].lstrip()[:1] == b"<"


def _reason(body: bytes) -> str:
    """Return the message in the JSON errors of Kubo, IPFS Cluster and pinning services; "" without one."""
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
    """Return the error for a response whose status its caller does not expect.

    With `is_command_error` the peer executed the command and it failed, so it must not be sent again.
    """
    peer, status, message = answer.peer, answer.status, answer.message
    detail = f": {message}" if message else ""
    pause = retry_after(answer.headers.get("retry-after"))
    if is_command_error:
        return RejectedError(peer, message or f"failed (HTTP {status})", reason=message, status=status)
    if 300 <= status < 400 and "location" in answer.headers:
        target = sanitize(answer.headers.get("location", ""), answer.secrets)
        hint = "configure the address that it redirects to"
        return UnexpectedResponseError(
            peer, f"redirects to {target!r}, which is not followed", status=status, hint=hint
        )
    if status == 429 or (status == 503 and pause is not None):
        return RetryLaterError(
            peer, f"requests a pause (HTTP {status}){detail}", retry_after=pause, status=status
        )
    if status in (401, 403, 407):
        hint = (
            "check the secret and its permissions"
            if answer.secrets
            else "it requires a secret: set token_env"
        )
        return AccessDeniedError(peer, f"denies access (HTTP {status}){detail}", status=status, hint=hint)
    if status == 404:
        return NotFoundError(peer, f"answered that it does not exist (HTTP 404){detail}", status=status)
    if status == 409:
        return ConflictError(peer, f"reports a conflict (HTTP 409){detail}", status=status)
    if status >= 500 or status in (408, 425):
        return TransientError(peer, f"failed (HTTP {status}){detail}", status=status)
    too_large = "a proxy in front of it limits request bodies; in nginx, set client_max_body_size 0"
    return RejectedError(
        peer,
        f"did not accept the request (HTTP {status}){detail}",
        status=status,
        reason=message,
        hint=too_large if status == 413 else None,
    )


PIECE = 1 << 20  #: bytes of one piece of an upload; larger ones are sliced again and again, which is slow


@dataclass(frozen=True, slots=True)
class UploadBody:
    """A request body of exactly `size` bytes; `pieces` makes it again for each attempt."""

    size: int
    pieces: Callable[[], Iterator[bytes]]
    content_type: str = "application/octet-stream"


class CountedUpload:
    """An upload in progress: the pieces of an UploadBody, counted as they are sent, once.

    They are released then: a sent request lives on with its response, in a cycle of references.
    """

    def __init__(self, upload: UploadBody) -> None:
        self._upload: UploadBody | None = upload
        self._left = upload.size

    @property
    def complete(self) -> bool:
        """Whether every byte was passed to the connection."""
        return self._left == 0

    def __iter__(self) -> Iterator[bytes]:
        upload, self._upload = self._upload, None
        for piece in upload.pieces() if upload is not None else ():
            remaining()
            yield piece
            self._left -= len(piece)


def multipart_file(
    filename: str, upload: UploadBody, *, field: str = "file", headers: Mapping[str, str] | None = None
) -> UploadBody:
    """Return `upload` as the only part of a multipart/form-data body (RFC 7578), still of known length.

    The part has additional `headers`.
    """
    boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
        + "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        + f"Content-Type: {upload.content_type}\r\n\r\n"
    ).encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")

    def pieces() -> Iterator[bytes]:
        yield head
        yield from upload.pieces()
        yield tail

    size = len(head) + upload.size + len(tail)
    return UploadBody(size, pieces, f"multipart/form-data; boundary={boundary}")
