"""The HTTP transport: sessions of requests to one peer, made by httpx over the connections of `connections`.

This is the only module that names httpx, and with `connections` the only one that names httpcore.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from operator import attrgetter
from typing import Any

import httpcore
import httpx

from reconciler.net.address import Address, Proxy, environment_proxy
from reconciler.net.auth import Secret
from reconciler.net.connections import (
    ConnectionBackend,
    ConnectionStream,
    ProxyUnreachableError,
    open_pool,
)
from reconciler.net.deadline import DeadlineExceededError, remaining
from reconciler.net.errors import AccessDeniedError, TransientError, UnexpectedResponseError, sanitize
from reconciler.redaction import hide_secrets

Transport = httpx.BaseTransport  #: answers requests in place of connections, as fakes of the tests do

_LONG = 256 << 10  # bytes of a body that are read directly
_DIRECT = "reconciler_body"  # the extension of a response with its body
_ASIDE = "reconciler_headers"  # and with a header that httpx shall not see
_TLS = "TLS: "  # begins the cause of a connection that TLS ended


class _WithoutSecrets(logging.Filter):
    """A filter for the log of httpx, which writes the URL of every request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Hide secrets in the record, and keep it."""
        record.msg, record.args = hide_secrets(record.getMessage()), ()
        return True


logging.getLogger("httpx").addFilter(_WithoutSecrets())


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
        self._headers = headers
        self._public_only = public_only
        self._given = transport
        self._proxy: Proxy | None = None
        if transport is None:
            direct = address.loopback or public_only
            self._proxy = None if direct else environment_proxy(address)
            transport = _PoolTransport(
                encrypted=address.encrypted, proxy=self._proxy, public_only=public_only
            )
        self._transport = transport
        self._client = httpx.Client(
            headers=headers,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # a peer sets none
            event_hooks={"response": [_set_location_aside]},
            follow_redirects=False,
            trust_env=False,
            transport=transport,
        )

    def close(self) -> None:
        """Close all connections. May be called twice, and from any thread: it ends reads of the others."""
        self._client.close()

    def apart(self) -> Session:
        """Return a session with the same peer that has connections of its own."""
        return Session(
            self._address,
            name=self._name,
            secrets=self._secrets,
            headers=self._headers,
            public_only=self._public_only,
            transport=self._given,
        )

    def interrupt(self) -> None:
        """End the requests of all threads by closing their connections; new ones can be made."""
        if isinstance(self._transport, _PoolTransport):
            self._transport.interrupt()

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
            if self._proxy is not None and isinstance(error.__cause__, ProxyUnreachableError):
                raise self._proxy_unreachable(self._proxy, self._cause(error)) from None
            raise self._unreachable(self._cause(error)) from None
        except httpx.ProxyError as error:
            raise self._proxy_refusal(self._cause(error)) from None
        except httpx.WriteTimeout:
            hint = "the peer may be stuck: restart it and run again"
            raise UnexpectedResponseError(self._name, "stopped reading the request", hint=hint) from None
        except httpx.TimeoutException:
            raise TransientError(self._name, "was silent for too long", timed_out=True) from None
        except httpx.TransportError as error:
            raise TransientError(self._name, f"the connection broke ({self._cause(error)})") from None
        except RuntimeError:
            if not self._client.is_closed:
                raise
            raise TransientError(self._name, "the connections were closed", reached=False) from None

    def proxy_denial(self) -> AccessDeniedError | None:
        """Return the error for a response with status 407; None when the requests go through no proxy."""
        return None if self._proxy is None else self._proxy_access_denied(self._proxy.described, "HTTP 407")

    def _proxy_access_denied(self, described: str, why: str) -> AccessDeniedError:
        message = f"cannot be reached: {described} did not connect to it ({why})"
        hint = "write the user and the password of the proxy into its address"
        return AccessDeniedError(self._name, message, hint=hint, status=407)

    def _proxy_unreachable(self, proxy: Proxy, why: str) -> TransientError:
        hint = f"check that the proxy is running, or list {self._address.host} in NO_PROXY"
        message = f"cannot be reached: {proxy.described} does not answer ({why})"
        return TransientError(self._name, message, hint=hint, reached=False)

    def _proxy_refusal(self, why: str) -> TransientError | AccessDeniedError:
        described = "the proxy" if self._proxy is None else self._proxy.described
        if why.startswith("407") or "authenticat" in why.lower():
            return self._proxy_access_denied(described, why)
        message = f"cannot be reached: {described} did not connect to it ({why})"
        hint = f"check that the proxy may reach {self._address.host}, or list it in NO_PROXY"
        return TransientError(self._name, message, hint=hint, reached=False)

    def _unreachable(self, why: str, *, timed_out: bool = False) -> TransientError:
        hint = f"check that it is running, and that its address is {self._address.text}"
        if "certificate" in why.lower():
            hint = _certificate_hint(why, self._address.text)
        elif why.startswith(_TLS):
            hint = f"check that it speaks TLS at {self._address.text}, and that nothing in between cuts it"
        message = f"cannot be reached at {self._address.text} ({why})"
        return TransientError(self._name, message, hint=hint, reached=False, timed_out=timed_out)

    def _cause(self, error: BaseException) -> str:
        """Return the text of the innermost exception, which is the system's or that of TLS."""
        while error.__context__ is not None:
            error = error.__context__
        if isinstance(error, ssl.SSLCertVerificationError):
            text = f"its certificate is refused: {error.verify_message}"
        elif isinstance(error, ssl.SSLError) and error.reason:
            text = _TLS + error.reason.replace("_", " ").lower()
        else:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return sanitize(text, self._secrets) or type(error).__name__


def _certificate_hint(why: str, address: str) -> str:
    if "expired" in why or "not yet valid" in why:
        return "its operator must renew the certificate; if that is valid, set the clock of this machine"
    if "mismatch" in why:
        return f"check that its address is {address}: the certificate is that of another host"
    return "if its certificate is of an authority of your own, name that in SSL_CERT_FILE"


def _set_location_aside(response: httpx.Response) -> None:
    """Keep the Location of a response from httpx, which fails in many ways where it is not an address."""
    if "location" in response.headers:
        response.extensions[_ASIDE] = {"location": response.headers.pop("location")}


class OpenResponse:
    """A response whose body is still to be read; `close` ends it. Header names are lower case."""

    def __init__(self, session: Session, response: httpx.Response) -> None:
        self._session = session
        self._response = response
        self.status = response.status_code
        aside = response.extensions.get(_ASIDE, {})
        self.headers = {name.lower(): value for name, value in response.headers.items()} | aside
        self._arriving: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the body as it arrives, never decoded, once. Raises RequestError."""
        with self._session.request_errors():
            for piece in self._response.iter_raw():
                remaining()
                yield piece

    def receive_into(self, memory: memoryview) -> int:
        """Fill the beginning of `memory` with what arrives next; return how much it is, 0 at the end.

        A body is read either in this way or by `pieces`. Raises RequestError.
        """
        with self._session.request_errors():
            remaining()
            body = self._response.extensions.get(_DIRECT)
            if isinstance(body, _LongBody):
                return body.receive_into(memory)
            if not self._rest:
                self._arriving = self._arriving or self._response.iter_raw()
                self._rest = memoryview(next(self._arriving, b""))
            count = min(len(memory), len(self._rest))
            memory[:count], self._rest = self._rest[:count], self._rest[count:]
            return count

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
    """A pool of connections as a transport of httpx, through `proxy` where there is one."""

    def __init__(self, *, encrypted: bool, proxy: Proxy | None, public_only: bool) -> None:
        self._backend = ConnectionBackend(public_only=public_only, proxy=proxy)
        self._pool = open_pool(self._backend, encrypted=encrypted, proxy=proxy)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        sent = httpcore.Request(
            request.method,
            _core_url(request.url),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            with _httpx_errors():
                found = self._send(sent)
        except httpx.ProxyError:
            self._backend.close_last()
            raise
        body = self._body(found, request.extensions.get("timeout", {}).get("read"))
        extensions = {**found.extensions, _DIRECT: body}
        return httpx.Response(found.status, headers=found.headers, extensions=extensions, stream=body)

    def _send(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request, again when the peer had closed the connection since it was used before."""
        while True:
            self._backend.made_one = False
            try:
                return self._pool.handle_request(request)
            except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
                if self._backend.made_one or request.method not in (b"GET", b"HEAD"):
                    raise

    def _body(self, response: httpcore.Response, timeout: float | None) -> _Body:
        stream = response.extensions.get("network_stream")
        unread = _UnreadBody.of(response)
        if unread is not None and unread.size > _LONG and isinstance(stream, ConnectionStream):
            return _LongBody(response, stream, unread, timeout)
        return _Body(response)

    def close(self) -> None:
        self._pool.close()
        self._backend.close()

    def interrupt(self) -> None:
        self._backend.interrupt()


class _Body(httpx.SyncByteStream):
    """The body of a response as httpcore reads it."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _UnreadBody:
    """What h11 has received of a body of known length, and how many bytes it still expects.

    Both are internals of h11 1.x, behind those of httpcore 1.x: `state` is that of the connection.
    """

    def __init__(self, state: Any) -> None:
        self._received = attrgetter("_receive_buffer.maybe_extract_at_most")(state)
        self._reader = attrgetter("_reader")(state)
        self.size = int(attrgetter("_remaining")(self._reader))

    @classmethod
    def of(cls, response: httpcore.Response) -> _UnreadBody | None:
        """Return that of a response; None for one of unknown length, or from another httpcore."""
        try:
            return cls(attrgetter("stream._stream._connection._h11_state")(response))
        except AttributeError:
            return None

    def take_received(self) -> Iterator[bytes]:
        """Iterate over the bytes that have arrived; `size` is what is left."""
        while self.size and (piece := self._received(self.size)):
            self.size -= len(piece)
            yield bytes(piece)

    def move_received(self, memory: memoryview) -> int:
        """Move bytes that have arrived into `memory`; return how many, 0 when there are none."""
        piece = self._received(len(memory)) or b""
        memory[: len(piece)] = piece
        self.size -= len(piece)
        return len(piece)

    def finish(self) -> None:
        """Note that the rest of the body was read, so that the connection can be used again."""
        self._reader._remaining = 0  # noqa: SLF001


class _LongBody(_Body):
    """A long body of known length, read from the connection after what httpcore has of it already.

    httpcore and h11 copy every byte four times, which costs more than receiving it. So they give up what they
    have buffered, and count the body as read at the end.
    """

    def __init__(
        self,
        response: httpcore.Response,
        stream: ConnectionStream,
        unread: _UnreadBody,
        timeout: float | None,
    ) -> None:
        super().__init__(response)
        self._stream = stream
        self._unread = unread
        self._timeout = timeout

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._unread.take_received()
            yield from self._stream.read_exactly(self._unread.size, self._timeout)
        self._unread.finish()
        yield from super().__iter__()

    def receive_into(self, memory: memoryview) -> int:
        """Fill the beginning of `memory`; return how much was filled, 0 at the end."""
        memory = memory[: self._unread.size]
        count = 0
        with _httpx_errors():
            if memory and not (count := self._unread.move_received(memory)):
                count = self._stream.receive_into(memory, self._timeout)
                self._unread.size -= count
                if not count:
                    raise httpcore.RemoteProtocolError(
                        f"the peer closed the connection {self._unread.size} bytes too early"
                    )
        if count and not self._unread.size:
            self._unread.finish()
            for _ in super().__iter__():
                pass
        return count


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
        name = next(each.__name__ for each in type(error).__mro__ if hasattr(httpx, each.__name__))
        kind: type[httpx.TransportError] = getattr(httpx, name)
        raise kind(str(error)) from error


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
