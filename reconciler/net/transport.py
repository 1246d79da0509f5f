"""The HTTP transport: sessions, connections and TLS. This is the only module that names httpx and httpcore.

A `Session` holds the connections to one peer. They are opened by a network backend of ours, which keeps the
deadlines of `net.deadline` at the socket: httpx limits the silence between two reads, so a peer that sends
one byte a second would never be late. The backend also dials public addresses only, where that is required.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import httpcore
import httpx

from reconciler.errors import UsageError
from reconciler.net.address import Address, environment_proxy, public_address
from reconciler.net.auth import Secret
from reconciler.net.deadline import DeadlineExceededError, remaining
from reconciler.net.errors import TransientError, UnexpectedResponseError, sanitize

#: answers requests in place of connections; tests and the forges' fakes implement it
Transport = httpx.BaseTransport

_SLICE = 1 << 18  # bytes read at once, or written between two checks for an early response
_PIECE = 1 << 19  # bytes of a long body read at once; more of them leave the caches of the processor
_LONG = 4 << 20  # bytes of a body that are worth a connection
_POOL: dict[str, Any] = {"max_connections": 100, "max_keepalive_connections": 20, "keepalive_expiry": 5.0}
_SOCKS = ("socks5", "socks5h")


class Session:
    """The connections to one peer. Usable from several threads.

    Every error message begins with `name`; `secrets` are removed from it. `headers` go with every request.
    With `public_only` no connection is made to addresses of this machine and of private networks. Proxies and
    certificates come from the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and their like); a peer on
    this machine, and one that must be public, is dialled without a proxy.
    """

    def __init__(
        self,
        address: Address,
        *,
        name: str,
        secrets: tuple[Secret, ...],
        headers: Mapping[str, str],
        public_only: bool = False,
        transport: Transport | None = None,
    ) -> None:
        self._name = name
        self._address = address
        self._secrets = secrets
        if transport is None:
            direct = address.loopback or public_only
            proxy = None if direct else environment_proxy(address)
            transport = _PoolTransport(encrypted=address.encrypted, proxy=proxy, public_only=public_only)
        self._client = httpx.Client(
            headers=headers, follow_redirects=False, trust_env=False, transport=transport
        )

    def close(self) -> None:
        """Close all connections. May be called twice, and from any thread: it ends reads of the others."""
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        json: object,
        content: bytes | Iterable[bytes] | None,
        silence: float,
        connect: float,
    ) -> OpenResponse:
        """Send a request and return its response as soon as the headers are there.

        `silence` and `connect` are seconds. Raises RequestError, and whatever `content` raises.
        """
        request = self._client.build_request(
            method,
            self._address.join(path),
            params=httpx.QueryParams(list(params)) if params else None,
            json=json,
            content=content,
            headers=dict(headers),
            timeout=httpx.Timeout(silence, connect=connect),
        )
        with self.request_errors():
            return OpenResponse(self, self._client.send(request, stream=True))

    @contextmanager
    def request_errors(self) -> Iterator[None]:
        """Raise exceptions of the transport and of the deadline as RequestErrors."""
        try:
            yield
        except DeadlineExceededError:
            raise TransientError(
                self._name, "exceeded the time limit of the whole request", timed_out=True
            ) from None
        except httpx.ConnectTimeout:
            raise self._unreachable("no answer in time", timed_out=True) from None
        except httpx.ConnectError as error:
            raise self._unreachable(self._cause(error)) from None
        except httpx.WriteTimeout:
            hint = "the peer may be stuck: restart it and run again"
            raise UnexpectedResponseError(self._name, "stopped reading the request", hint=hint) from None
        except httpx.TimeoutException:
            raise TransientError(self._name, "was silent for too long", timed_out=True) from None
        except httpx.TransportError as error:
            raise TransientError(self._name, f"the connection broke ({self._cause(error)})") from None

    def _unreachable(self, why: str, *, timed_out: bool = False) -> TransientError:
        hint = f"check that it is running, and that its address is {self._address.text}"
        message = f"cannot be reached at {self._address.text} ({why})"
        return TransientError(self._name, message, hint=hint, reached=False, timed_out=timed_out)

    def _cause(self, error: BaseException) -> str:
        """Return the text of the innermost exception, which is the system's."""
        while error.__context__ is not None:
            error = error.__context__
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return sanitize(text, self._secrets) or type(error).__name__


class OpenResponse:
    """A response whose body is still to be read; `close` ends it. Header names are lower case."""

    def __init__(self, session: Session, response: httpx.Response) -> None:
        self._session = session
        self._response = response
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the body as it arrives, never decoded, once. Raises RequestError."""
        with self._session.request_errors():
            for piece in self._response.iter_raw():
                remaining()
                yield piece

    def first_bytes(self, limit: int) -> bytes:
        """Return up to `limit` bytes of the body, fewer when the connection breaks earlier.

        Raises TransientError when the deadline passes.
        """
        body = bytearray()
        with self._session.request_errors(), suppress(httpx.TransportError):
            for piece in self._response.iter_raw():
                remaining()
                body += piece
                if len(body) >= limit:
                    break
        return bytes(body[:limit])

    def close(self) -> None:
        """Return the connection to the pool, or close it when the body was not read to its end."""
        self._response.close()


# --- httpx over httpcore


class _PoolTransport(httpx.BaseTransport):
    """A pool of connections made by `_Backend`, through `proxy` (a URL) where there is one."""

    def __init__(self, *, encrypted: bool, proxy: str | None, public_only: bool) -> None:
        backend = _Backend(public_only=public_only)
        context = _tls_context() if encrypted else None
        if proxy is None:
            self._pool = httpcore.ConnectionPool(ssl_context=context, network_backend=backend, **_POOL)
        else:
            self._pool = _proxy_pool(proxy, ssl_context=context, network_backend=backend, **_POOL)
        self._direct: set[_Stream] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        sent = httpcore.Request(
            request.method,
            _core_url(request.url),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _httpx_errors():
            found = self._pool.handle_request(sent)
        return httpx.Response(
            found.status,
            headers=found.headers,
            extensions=found.extensions,
            stream=self._body(found, request.extensions.get("timeout", {}).get("read")),
        )

    def _body(self, response: httpcore.Response, timeout: float | None) -> _Body:
        headers = httpx.Headers(response.headers)
        stream = response.extensions.get("network_stream")
        length = headers.get("Content-Length", "")
        is_long = length.isascii() and length.isdigit() and int(length) > _LONG
        if is_long and isinstance(stream, _Stream) and "Transfer-Encoding" not in headers:
            return _LongBody(response, stream, int(length), timeout, self._direct)
        return _Body(response)

    def close(self) -> None:
        self._pool.close()
        for stream in list(self._direct):
            stream.close()


class _Body(httpx.SyncByteStream):
    """The body of a response as httpcore reads it."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _LongBody(_Body):
    """A long body of known length, read from the connection after what httpcore has of it already.

    httpcore and h11 copy every byte four times, which costs more than receiving it. They are asked for what
    they have buffered; the rest of the body comes from `stream`, and the connection is closed after it.
    `direct` has the streams that are being read in this way, so that the transport can close them.
    """

    def __init__(
        self,
        response: httpcore.Response,
        stream: _Stream,
        length: int,
        timeout: float | None,
        direct: set[_Stream],
    ) -> None:
        super().__init__(response)
        self._stream = stream
        self._length = length
        self._timeout = timeout
        self._direct = direct

    def __iter__(self) -> Iterator[bytes]:
        rest = self._length
        self._direct.add(self._stream)
        with _httpx_errors():
            pieces = self._response.iter_stream()
            while True:
                try:
                    with self._stream.without_reading():
                        piece = next(pieces, None)
                except _WouldReadError:
                    break
                if piece is None:  # all of it was buffered, or it answers a HEAD request
                    self._direct.discard(self._stream)
                    return
                rest -= len(piece)
                yield piece
            try:
                yield from self._stream.read_exactly(rest, self._timeout)
            finally:
                self.close()

    def close(self) -> None:
        super().close()
        if self._stream in self._direct:
            self._direct.discard(self._stream)
            self._stream.close()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise the exceptions of httpcore as those of httpx, which have the same names."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        httpcore.UnsupportedProtocol,
    ) as error:
        kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise kind(str(error)) from error


def _tls_context() -> Any:
    """Return a TLS context with certifi's certificates, or those of SSL_CERT_FILE or SSL_CERT_DIR."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise UsageError(
            f"the certificates cannot be read: {error.strerror or error}",
            hint="correct the environment variable SSL_CERT_FILE",
        ) from None


def _proxy_pool(url: str, **options: Any) -> httpcore.ConnectionPool:
    try:
        proxy = httpx.Proxy(url)
        if proxy.url.scheme in _SOCKS:
            return httpcore.SOCKSProxy(_core_url(proxy.url), proxy_auth=proxy.raw_auth, **options)
        return httpcore.HTTPProxy(_core_url(proxy.url), proxy_auth=proxy.raw_auth, **options)
    except (ValueError, httpx.InvalidURL, ImportError, RuntimeError) as error:
        raise UsageError(
            f"the proxy of the environment cannot be used: {type(error).__name__}",
            hint="HTTP_PROXY, HTTPS_PROXY and ALL_PROXY are URLs such as http://proxy.example:3128; "
            "for a SOCKS proxy, install httpx[socks]",
        ) from None


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


# --- connections


class _WouldReadError(Exception):
    """No more bytes can be returned without reading from the network."""


class _Stream(httpcore.NetworkStream):
    """One connection; every operation gets at most the time that is left until the deadline."""

    def __init__(self, inner: httpcore.NetworkStream, *, encrypted: bool = False) -> None:
        self._inner = inner
        self._encrypted = encrypted
        self._unread_by: int | None = None  # the thread inside `without_reading`

    @contextmanager
    def without_reading(self) -> Iterator[None]:
        """Make reads of this thread raise _WouldReadError, and ignore that httpcore closes it then."""
        self._unread_by = threading.get_ident()
        try:
            yield
        finally:
            self._unread_by = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unread_by is not None:
            raise _WouldReadError
        with (
            _deadline_errors()
        ):  # more at once than httpcore asks for: each piece costs a walk through layers
            return self._inner.read(max(max_bytes, _SLICE), remaining(timeout))

    def read_exactly(self, size: int, timeout: float | None) -> Iterator[bytes]:
        """Iterate over the next `size` bytes. Raises RemoteProtocolError when the peer ends them early."""
        while size:
            with _deadline_errors():
                piece = self._inner.read(min(size, _PIECE), remaining(timeout))
            if not piece:
                raise httpcore.RemoteProtocolError(f"the peer closed the connection {size} bytes too early")
            size -= len(piece)
            yield piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            self._stop_when_answered()
            try:
                with _deadline_errors():
                    self._inner.write(rest[:_SLICE], remaining(timeout))  # type: ignore[arg-type]  # no copy
            except httpcore.WriteTimeout:
                self._stop_when_answered()
                raise
            rest = rest[_SLICE:]

    def _stop_when_answered(self) -> None:
        # A peer may answer (403, say) and then neither read on nor hang up. httpcore reads the response after
        # a failed write, so a response that has arrived already ends the sending. TLS sends bytes of its own.
        if not self._encrypted and self._inner.get_extra_info("is_readable"):
            raise httpcore.WriteError("the peer has answered already")

    def close(self) -> None:
        if self._unread_by == threading.get_ident():
            return
        found = self._inner.get_extra_info("socket")
        if found is not None:
            with suppress(OSError):  # wakes a thread that reads from it, as closing alone does not
                found.shutdown(socket.SHUT_RDWR)
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        with _deadline_errors():
            inner = self._inner.start_tls(ssl_context, server_hostname, remaining(timeout))
        return _Stream(inner, encrypted=True)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """The network backend of httpcore: it opens `_Stream`s, with `public_only` to public addresses only."""

    def __init__(self, *, public_only: bool) -> None:
        self._inner = httpcore.SyncBackend()
        self._public_only = public_only

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        if self._public_only:
            # Dial the address that was checked: the name may stand for another one in the next look-up.
            host = _checked_address(host, port)
        with _deadline_errors():
            return _Stream(
                self._inner.connect_tcp(host, port, remaining(timeout), local_address, socket_options)
            )


def _checked_address(host: str, port: int) -> str:
    try:
        address = public_address(host, port)
    except OSError as error:
        raise httpcore.ConnectError(error.strerror or str(error)) from None
    if address is None:
        raise httpcore.ConnectError("its address is not public")
    return address


@contextmanager
def _deadline_errors() -> Iterator[None]:
    """Raise DeadlineExceededError for a time-out that is due to the deadline."""
    try:
        yield
    except httpcore.TimeoutException:
        remaining()
        raise
