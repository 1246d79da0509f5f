"""HTTP for sources: redirects to other hosts, where no secret follows, and exact ranges of one file.

Hubs and servers of Git LFS answer with redirects to storage on other hosts, at addresses that are signed and
expire. Each host and port has a client of its own, and only the one that the user named has the secret. A
redirect from a public peer must lead to a public address (the SSRF guard of `net.address`), one from an
encrypted peer to an encrypted one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from reconciler.errors import SourceChangedError, UsageError
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
from reconciler.sources.interface import (
    ListedFile,
    SourceError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceUnavailableError,
)
from reconciler.sources.ranges import BrokenOffError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_HOPS = 5
_MAX_HOSTS = 32  # a peer that redirects to more is not storage behind a hub
_SLOWEST = 64 << 10  # bytes per second; a read that is slower than this fails
_LARGE = 4 << 20  # bytes of a file from which parts are worth more than one connection
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
CHANGED_HINT = "list the source again; a revision that is pinned never changes"


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
        self.serves_ranges = True  #: until a large file came whole where a part was requested

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
    ) -> Response:
        """Send a request to the peer itself and return its response, read to the end. Raises SourceError.

        Redirects within the peer are followed, others raise SourceRefusedError; repeated requests must be
        harmless.
        """
        for _ in range(_MAX_HOPS + 1):
            client, path = self._client(url)
            try:
                found = client.request(
                    method,
                    path,
                    repeatable=True,
                    headers=headers,
                    json=json,
                    expect={*expect, *REDIRECTS},
                    limit=limit,
                )
            except RequestError as error:
                raise self.source_error(error, file) from None
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
    ) -> Answer:
        """Send a request for `file` and follow its redirects. The caller closes the body of the answer.

        `headers` go with every request, `private` ones only to the host and port of `url`. Raises SourceError
        for a status that is neither expected nor a redirect.
        """
        hops: list[Mapping[str, str]] = []
        first = _origin(url)
        while True:
            client, path = self._client(url)
            sent = {**headers, **private} if _origin(url) == first else headers
            try:
                body = client.open(
                    method,
                    path,
                    repeatable=True,
                    headers=sent,
                    expect={*expect, *REDIRECTS},
                    total=client.timeouts.total + file.size / _SLOWEST,
                )
            except RequestError as error:
                raise self.source_error(error, file.path) from None
            if body.status not in REDIRECTS:
                return Answer(body, url, _origin(url) != self.origin, tuple(hops))
            body.close()
            hops.append(body.headers)
            if len(hops) > _MAX_HOPS:
                raise SourceProtocolError(self.name, f"redirects more than {_MAX_HOPS} times", file=file.path)
            url = self._target(url, body.headers, file.path)

    def pieces(self, answer: Answer, file: ListedFile, start: int, end: int) -> Iterator[bytes]:
        """Iterate over the bytes of `file` from `start` to before `end` in an answer of status 200 or 206.

        An answer with the whole file, because the range was ignored, is read up to `start` first. Raises
        BrokenOffError when it ends early, SourceChangedError when the file has another size or ETag now,
        SourceProtocolError for another range.
        """
        try:
            skip = self._check(answer.body, file, start, end)
            wanted = end - start
            for piece in answer.body.pieces(skip + wanted if answer.body.status == 206 else file.size):
                data = piece[skip:] if skip else piece
                skip -= len(piece) - len(data)
                data = data[:wanted] if len(data) > wanted else data
                wanted -= len(data)
                if data:
                    yield data
                if not wanted and answer.body.status == 200:
                    return
        except TransientError as error:
            raise BrokenOffError(self.name, _text(error), file=file.path, hint=error.hint) from None
        except RequestError as error:
            raise self.source_error(error, file.path) from None
        finally:
            answer.body.close()

    def _check(self, body: OpenBody, file: ListedFile, start: int, end: int) -> int:
        """Check the headers of a response; return how many of its bytes come before `start`."""
        length = body.headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else None
        etag = body.headers.get("etag", "")
        if file.etag and etag and etag != file.etag:
            raise SourceChangedError(
                f"{self.name}: {file.path!r} has another ETag than when it was listed", hint=CHANGED_HINT
            )
        if body.status == 200:
            if size is not None and size != file.size:
                raise self.resized(file, size)
            if (start, end) != (0, file.size) and file.size > _LARGE:
                self.serves_ranges = False
            return start
        stated = body.headers.get("content-range", "")
        found = _CONTENT_RANGE.fullmatch(stated.strip())
        if found is None:
            raise SourceProtocolError(
                self.name,
                f"came as a part of the file without a valid Content-Range ({self.shown(stated, 60)!r})",
                file=file.path,
            )
        first, last = int(found[1]), int(found[2])
        if found[3] != "*" and int(found[3]) != file.size:
            raise self.resized(file, int(found[3]))
        if first != start or not first <= last < end or size not in (None, last + 1 - first):
            raise SourceProtocolError(
                self.name,
                f"came with bytes {first} to {last} instead of {start} to {end - 1}",
                file=file.path,
            )
        return 0

    def resized(self, file: ListedFile, size: int) -> SourceChangedError:
        """Make the error for a file that has `size` bytes now."""
        return SourceChangedError(
            f"{self.name}: {file.path!r} has {size} bytes now instead of {file.size}", hint=CHANGED_HINT
        )

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
        return found

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
        target = urljoin(url, location).partition("#")[0]
        self.check_target(target, file)
        return target

    def check_target(self, url: str, file: str) -> None:
        """Raise SourceError for an address that the peer names and that may not be asked."""
        try:
            address = parse_address(_origin(url))
            fine = "@" not in urlsplit(url).netloc and url.isascii() and url.isprintable()
        except (ValueError, UsageError):
            address, fine = self._address, False
        if not fine:
            raise SourceProtocolError(
                self.name, f"leads to {self.shown(url, 80)!r}, which is no address", file=file
            )
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
