"""HTTP for sources: redirects to other hosts, where no secret follows, and exact ranges of one file.

Hubs and servers of Git LFS answer with redirects to storage on other hosts, at addresses that are signed and
expire. Each host and port has a client of its own, and only the one that the user named has the secret. A
redirect from a public peer must lead to a public address (the SSRF guard of `net.address`), one from an
encrypted peer to an encrypted one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urljoin, urlsplit

from reconciler.errors import UsageError
from reconciler.net.address import Address, environment_proxy, is_public, parse_address, public_address
from reconciler.net.auth import Auth
from reconciler.net.client import HttpClient
from reconciler.net.errors import (
    AccessDeniedError,
    NotFoundError,
    RequestError,
    RetryLaterError,
    TransientError,
    sanitize,
)
from reconciler.net.response import OpenBody, Response
from reconciler.net.retry import NO_RETRY
from reconciler.sources.http_span import CONTENT_RANGE, HttpSpan
from reconciler.sources.interface import (
    ListedFile,
    SourceError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceUnavailableError,
)
from reconciler.sources.spans import LARGE_FILE

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_HOPS = 5
_BUSY = 503  # also without Retry-After
_MAX_HOSTS = 32  # a peer that redirects to more is not storage behind a hub
_SLOWEST = 64 << 10  # bytes per second; a read that is slower than this fails


@dataclass(frozen=True, slots=True)
class Answer:
    """The last response of a chain of redirects.

    `url` is where it came from; `elsewhere` is whether that is another host or port than the first request
    went to. `hops` are the headers of the redirects, in order.
    """

    body: OpenBody
    url: str
    elsewhere: bool
    hops: tuple[Mapping[str, str], ...]


class HttpReader:
    """GET requests that begin at the peer at `address`, which gets the secret of `auth`. Thread-safe.

    `name` is that of the source, and begins every error.
    """

    def __init__(self, name: str, address: Address, auth: Auth | None = None) -> None:
        self.name = name
        self._address = address
        self._auth = auth
        self._lock = threading.Lock()
        self._clients: dict[str, HttpClient] = {}
        self._closed = False
        self._public: bool | None = None
        self.has_secret = auth is not None
        #: whether parts of large files can be requested; None until one was
        self.serves_ranges: bool | None = None
        self.latency: float | None = None  #: seconds from a request to its response, of the fastest one

    def shown(self, text: str, limit: int) -> str:
        """Return a peer's text for a message: one line of at most `limit` characters, without the secret."""
        return sanitize(text, () if self._auth is None else (self._auth.secret,), limit)

    def close(self) -> None:
        """Close all connections, also under reads of other threads. May be called twice."""
        with self._lock:
            self._closed = True
            clients = list(self._clients.values())
        for client in clients:
            client.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        expect: Collection[int] = (200,),
        json: object = None,
        limit: int,
        file: str = "",
        once: bool = False,
    ) -> Response:
        """Send a request to the peer itself and return its response, read to the end. Raises SourceError.

        Redirects within the peer are followed, others raise SourceRefusedError; repeated requests must be
        harmless, and with `once` none is repeated.
        """
        for _ in range(_MAX_HOPS + 1):
            client, path = self._client(url)
            began = time.monotonic()
            try:
                found = client.request(
                    method,
                    path,
                    repeatable=True,
                    headers=headers,
                    json=json,
                    expect={*expect, *REDIRECTS},
                    limit=limit,
                    retry=NO_RETRY if once else None,
                )
            except RequestError as error:
                raise self.source_error(error, file) from None
            self._answered(began)
            if found.status not in REDIRECTS:
                return found
            url = self._target(url, found.headers, file)
            if not self.is_own(url):
                raise SourceRefusedError(
                    self.name,
                    f"redirects to {_origin(url)}, where only its own host and port may answer",
                    file=file,
                    hint="if that host is right, name it as the address of the source",
                )
        raise SourceProtocolError(self.name, f"redirects more than {_MAX_HOPS} times", file=file)

    def open(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str],
        private: Mapping[str, str] = {},
        expect: Collection[int],
        file: ListedFile,
        once: bool = False,
    ) -> Answer:
        """Send a request for `file` and follow its redirects. The caller closes the body of the answer.

        `headers` go with every request, `private` ones only to the host and port of `url`. With `once`, no
        request is repeated. Raises SourceError for a status that is neither expected nor a redirect.
        """
        hops: list[Mapping[str, str]] = []
        first = _origin(url)
        while True:
            client, path = self._client(url)
            sent = {**headers, **private} if _origin(url) == first else headers
            began = time.monotonic()
            try:
                body = client.open(
                    method,
                    path,
                    repeatable=True,
                    headers=sent,
                    expect={*expect, *REDIRECTS},
                    body_seconds=partial(_longest, file),
                    retry=NO_RETRY if once else None,
                )
            except RequestError as error:
                raise self.source_error(error, file.path) from None
            self._answered(began)
            if body.status not in REDIRECTS:
                return Answer(body, url, _origin(url) != self.origin, tuple(hops))
            body.close()
            hops.append(body.headers)
            if len(hops) > _MAX_HOPS:
                raise SourceProtocolError(self.name, f"redirects more than {_MAX_HOPS} times", file=file.path)
            url = self._target(url, body.headers, file.path)

    def span(self, answer: Answer, file: ListedFile, start: int, end: int) -> HttpSpan:
        """Return the bytes of `file` from `start` to before `end` in an answer. Raises as HttpSpan."""
        found = HttpSpan(self.name, answer.body, file, start, end, failed=self.source_error, shown=self.shown)
        if (start, end) != (0, file.size) and file.size > LARGE_FILE:
            self.serves_ranges = not found.is_whole
        return found

    def source_error(self, error: RequestError, file: str = "") -> SourceError:
        """Return the failure of a request as that of the source."""
        message = f"{_text(error)}, asked for {file!r}" if file else _text(error)
        kind: type[SourceError] = SourceProtocolError
        if isinstance(error, TransientError | RetryLaterError):
            kind = SourceUnavailableError
        elif isinstance(error, AccessDeniedError):
            kind = SourceRefusedError
        elif isinstance(error, NotFoundError):
            kind = SourceMissingError
        found = kind(self.name, message, hint=error.hint)
        found.file = file
        if isinstance(found, SourceUnavailableError):
            found.retry_after = getattr(error, "retry_after", None)
            found.overloaded = isinstance(error, RetryLaterError) or error.status == _BUSY
        return found

    def _answered(self, began: float) -> None:
        seconds = time.monotonic() - began
        self.latency = seconds if self.latency is None else min(self.latency, seconds)

    # --- hosts

    @property
    def origin(self) -> str:
        """Scheme, host and port of the peer."""
        return _origin(self._address.text)

    def is_own(self, url: str) -> bool:
        """Return whether `url` is at the scheme, host and port of the peer."""
        return _origin(url) == self.origin

    def _client(self, url: str) -> tuple[HttpClient, str]:
        """Return the client for the host of `url`, and the path and query below it."""
        parts = urlsplit(url)
        origin = _origin(url)
        own = origin == self.origin
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with self._lock:
            if self._closed:
                raise SourceUnavailableError(self.name, "was closed")
            client = self._clients.get(origin)
            if client is None:
                if len(self._clients) >= _MAX_HOSTS:
                    raise SourceProtocolError(self.name, f"leads to more than {_MAX_HOSTS} hosts")
                client = HttpClient(
                    origin,
                    name=self.name if own else f"{self.name} ({parts.hostname})",
                    auth=self._auth if own else None,
                    public_only=not own and self._must_be_public(origin),
                )
                self._clients[origin] = client
        return client, path

    def _target(self, url: str, headers: Mapping[str, str], file: str) -> str:
        """Return the address that a redirect from `url` leads to, without a fragment."""
        location = headers.get("location", "")
        if not location:
            raise SourceProtocolError(self.name, "redirects without an address", file=file)
        target = self.resolve(url, location, file)
        self.check_target(target, file)
        return target

    def resolve(self, url: str, reference: str, file: str = "") -> str:
        """Return the address that a peer's `reference` in its answer from `url` means, without a fragment.

        Raises SourceProtocolError for what is not an address.
        """
        try:
            target = urljoin(url, reference).partition("#")[0]
            _origin(target)
        except ValueError:
            raise self._no_address(reference, file) from None
        return target

    def _no_address(self, text: str, file: str) -> SourceProtocolError:
        return SourceProtocolError(
            self.name, f"leads to {self.shown(text, 80)!r}, which is not an address", file=file
        )

    def check_target(self, url: str, file: str) -> None:
        """Raise SourceError for an address that the peer names and that may not be asked."""
        try:
            address = parse_address(_origin(url))
            fine = "@" not in urlsplit(url).netloc and url.isascii() and url.isprintable()
        except (ValueError, UsageError):
            address, fine = self._address, False
        if not fine:
            raise self._no_address(url, file)
        if self._address.encrypted and not address.encrypted:
            raise SourceRefusedError(
                self.name, f"leads from https to {_origin(url)}, which is not encrypted", file=file
            )
        if not self.is_own(url) and self._is_public() and _is_local(address):
            raise SourceRefusedError(
                self.name,
                f"leads to {_origin(url)}, an address of this machine or of a private network",
                file=file,
            )

    def _must_be_public(self, origin: str) -> bool:
        """Return whether connections to `origin` may lead to public addresses only.

        Through a proxy of the environment, the proxy decides.
        """
        return self._is_public() and environment_proxy(parse_address(origin)) is None

    def _is_public(self) -> bool:
        """Return whether the peer itself has a public address, as far as anybody can tell."""
        if self._public is None:
            if _is_local(self._address):
                self._public = False
            else:
                try:
                    self._public = public_address(self._address.host, self._address.port) is not None
                except OSError:
                    self._public = True
        return self._public


def _longest(file: ListedFile, headers: Mapping[str, str]) -> float:
    """Return the seconds that a response with these headers may take for bytes of `file`."""
    part = CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    length = headers.get("content-length", "")
    stated = file.size
    if length.isascii() and length.isdigit() and len(length) < 20:
        stated = int(length)
    elif part is not None:  # of a response in chunks, or until the connection is closed
        stated = max(0, int(part[2]) + 1 - int(part[1]))
    return min(stated, file.size) / _SLOWEST


def _origin(url: str) -> str:
    """Return scheme, host and port of an absolute URL, in one spelling."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}:{default if parts.port is None else parts.port}"


def _is_local(address: Address) -> bool:
    """Return whether an address names this machine or a private network, by its text alone."""
    if address.loopback:
        return True
    try:
        return not is_public(address.host)
    except ValueError:
        return False


def _text(error: RequestError) -> str:
    return error.message.removeprefix(f"{error.peer}: ")
