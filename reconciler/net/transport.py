"""The HTTP transport: sessions of requests to one peer, over the connections of `connections`.

This module, `request_head` and `connections` are the only ones that name httpcore.
"""

from __future__ import annotations

import json as json_text
import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any, Protocol

import httpcore

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
from reconciler.net.request_head import merged_headers, parse_url, request_headers
from reconciler.redaction import hide_secrets

_LONG = 256 << 10  # bytes of a body that are read directly
_TLS = "TLS: "  # begins the cause of a connection that TLS ended
_BROKEN = (  # what httpcore raises when a connection or the protocol on it fails
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class Transport(Protocol):
    """What answers requests in place of connections; tests and the forges' fakes implement it."""

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Answer a request, or raise an exception of httpcore."""


class _WithoutSecrets(logging.Filter):
    """A filter for the logs of httpcore, which may contain addresses and headers of responses."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Hide secrets in the record, and keep it."""
        record.msg, record.args = hide_secrets(record.getMessage()), ()
        return True


for _name in ("connection", "http11", "proxy", "socks"):
    logging.getLogger(f"httpcore.{_name}").addFilter(_WithoutSecrets())


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
        self._closed = False

    def close(self) -> None:
        """Close all connections. May be called twice, and from any thread: it ends reads of the others."""
        self._closed = True
        if isinstance(self._transport, _PoolTransport):
            self._transport.close()

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
        if self._closed:
            raise TransientError(self._name, "the connections were closed", reached=False)
        timeout = {"connect": connect, "read": silence, "write": silence, "pool": silence}
        if json is not None:
            content = json_text.dumps(json, ensure_ascii=False, separators=(",", ":")).encode()
            headers = {"Content-Type": "application/json", **headers}
        url = parse_url(self._address.join(path), params)
        request = httpcore.Request(
            method,
            url,
            headers=request_headers(method, url, content, {**self._headers, **headers}),
            content=content,
            extensions={"timeout": timeout},
        )
        with self.request_errors():
            return OpenResponse(self, _body_of(self._transport.handle_request(request), silence))

    @contextmanager
    def request_errors(self) -> Iterator[None]:
        """Raise exceptions of the transport and of the deadline as RequestErrors."""
        try:
            yield
        except DeadlineExceededError:
            raise TransientError(
                self._name, "exceeded the time limit of the whole request", timed_out=True
            ) from None
        except httpcore.ConnectTimeout:
            raise self._unreachable("no answer in time", timed_out=True) from None
        except httpcore.ConnectError as error:
            if self._proxy is not None and isinstance(error, ProxyUnreachableError):
                raise self._proxy_unreachable(self._proxy, self._cause(error)) from None
            raise self._unreachable(self._cause(error)) from None
        except httpcore.ProxyError as error:
            raise self._proxy_refusal(self._cause(error)) from None
        except httpcore.WriteTimeout:
            hint = "the peer may be stuck: restart it and run again"
            raise UnexpectedResponseError(self._name, "stopped reading the request", hint=hint) from None
        except httpcore.TimeoutException:
            raise TransientError(self._name, "was silent for too long", timed_out=True) from None
        except _BROKEN as error:
            raise TransientError(self._name, f"the connection broke ({self._cause(error)})") from None

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


class OpenResponse:
    """A response whose body is still to be read; `close` ends it. Header names are lower case."""

    def __init__(self, session: Session, body: _Body) -> None:
        self._session = session
        self._body = body
        self.status = body.response.status
        self.headers = merged_headers(body.response.headers)
        self._arriving: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the body as it arrives, never decoded, once. Raises RequestError."""
        with self._session.request_errors():
            for piece in self._body:
                remaining()
                yield piece

    def receive_into(self, memory: memoryview) -> int:
        """Fill the beginning of `memory` with what arrives next; return how much it is, 0 at the end.

        A body is read either in this way or by `pieces`. Raises RequestError.
        """
        with self._session.request_errors():
            remaining()
            if isinstance(self._body, _LongBody):
                return self._body.receive_into(memory)
            if not self._rest:
                self._arriving = self._arriving or iter(self._body)
                self._rest = memoryview(next(self._arriving, b""))
            count = min(len(memory), len(self._rest))
            memory[:count], self._rest = self._rest[:count], self._rest[count:]
            return count

    def first_bytes(self, limit: int) -> bytes:
        """Return up to `limit` bytes of the body, fewer when the connection breaks earlier.

        Raises TransientError when the deadline passes.
        """
        body = bytearray()
        with self._session.request_errors(), suppress(*_BROKEN):
            for piece in self._body:
                remaining()
                body += piece
                if len(body) >= limit:
                    break
        return bytes(body[:limit])

    def close(self) -> None:
        """Return the connection to the pool, or close it when the body was not read to its end."""
        self._body.response.close()


# --- requests and responses of httpcore


class _PoolTransport:
    """A pool of connections, through `proxy` where there is one."""

    def __init__(self, *, encrypted: bool, proxy: Proxy | None, public_only: bool) -> None:
        self._backend = ConnectionBackend(public_only=public_only, proxy=proxy)
        self._pool = open_pool(self._backend, encrypted=encrypted, proxy=proxy)

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request, again when the peer had closed the connection since it was used before."""
        while True:
            self._backend.made_one = False
            try:
                return self._pool.handle_request(request)
            except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
                if self._backend.made_one or request.method not in (b"GET", b"HEAD"):
                    raise
            except httpcore.ProxyError:
                self._backend.close_last()
                raise

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        self._backend.close()

    def interrupt(self) -> None:
        """Close all connections; new ones can be made."""
        self._backend.interrupt()


class _Body:
    """The body of `response` as httpcore reads it."""

    def __init__(self, response: httpcore.Response) -> None:
        self.response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self.response.iter_stream()
        self.response.close()


def _body_of(response: httpcore.Response, timeout: float) -> _Body:
    """Return the body of a response; reads of a long one wait for at most `timeout` seconds."""
    stream = response.extensions.get("network_stream")
    unread = _UnreadBody.of(response)
    if unread is not None and unread.size > _LONG and isinstance(stream, ConnectionStream):
        return _LongBody(response, stream, unread, timeout)
    return _Body(response)


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
        timeout: float,
    ) -> None:
        super().__init__(response)
        self._stream = stream
        self._unread = unread
        self._timeout = timeout

    def __iter__(self) -> Iterator[bytes]:
        yield from self._unread.take_received()
        yield from self._stream.read_exactly(self._unread.size, self._timeout)
        self._unread.finish()
        yield from super().__iter__()

    def receive_into(self, memory: memoryview) -> int:
        """Fill the beginning of `memory`; return how much was filled, 0 at the end."""
        memory = memory[: self._unread.size]
        count = 0
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
