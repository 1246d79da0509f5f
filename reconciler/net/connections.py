"""Connections to peers: sockets with deadlines, TLS, and the proxies of the environment.

They are opened by a network backend of ours for httpcore, which keeps the deadlines of `net.deadline` at the
socket: the HTTP library limits the silence between two reads, so a peer that sends one byte a second would
never be late. The backend also dials public addresses only, where that is required, and tells a proxy that
cannot be reached apart from a peer.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

import httpcore

from reconciler.errors import UsageError
from reconciler.net.address import Proxy, public_address
from reconciler.net.deadline import remaining

_SLICE = 1 << 18  # bytes read at once, or written between two checks for an early response
_PIECE = 1 << 19  # bytes of a long body read at once; more of them leave the caches of the processor
_NEAR = 0.001  # seconds within which a peer on this machine, or near it, accepts a connection
_NEAR_BUFFER = 1 << 19  # bytes that the system receives ahead from such a peer; by itself it takes many MiB
_LARGEST = Path("/proc/sys/net/core/rmem_max")
_POOL: dict[str, Any] = {"max_connections": 300, "max_keepalive_connections": 256, "keepalive_expiry": 5.0}
_SOCKS = ("socks5", "socks5h")
_UNSENT = 1 << 18  # bytes that may wait in a socket: then what was written has left, or is about to
_PLAIN_STREAM = "SyncStream"  # of httpcore: what it reads is what its socket gives, also over TLS


def open_pool(backend: ConnectionBackend, *, encrypted: bool, proxy: Proxy | None) -> httpcore.ConnectionPool:
    """Return a pool of connections of `backend`, through `proxy` where there is one; none is open yet.

    `encrypted` is whether the peer speaks TLS. Raises UsageError for a proxy or for certificates of the
    environment that cannot be used.
    """
    options: dict[str, Any] = dict(_POOL, network_backend=backend)
    options["ssl_context"] = tls_context() if encrypted else None
    if proxy is None:
        return httpcore.ConnectionPool(**options)
    url, options["proxy_auth"] = _parse_proxy(proxy)
    if url.scheme.decode() not in _SOCKS:
        context = tls_context() if url.scheme == b"https" else None
        return httpcore.HTTPProxy(url, proxy_ssl_context=context, **options)
    try:
        return httpcore.SOCKSProxy(url, **options)
    except (ImportError, RuntimeError):
        raise UsageError(
            f"{proxy.described} is a SOCKS proxy, which needs the extra `socks`",
            hint="pip install 'model-reconciler[socks]', or name an HTTP proxy",
        ) from None


def tls_context() -> ssl.SSLContext:
    """Return a context with the certificates of SSL_CERT_FILE and SSL_CERT_DIR, by default certifi's.

    Raises UsageError that names the variable when its file or directory cannot be used.
    """
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    # OpenSSL ignores a directory that it cannot open, and separates several by colons.
    for part in (directory or "").split(os.pathsep):
        if part and not os.path.isdir(part):  # noqa: PTH112  the value as it was written
            raise _unusable("SSL_CERT_DIR", part, "there is no such directory")
    try:
        if file or directory:
            return ssl.create_default_context(cafile=file or None, capath=directory or None)
        import certifi

        return ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        is_format = isinstance(error, ssl.SSLError)
        reason = "it contains no certificates in PEM form" if is_format else error.strerror or str(error)
        raise _unusable("SSL_CERT_FILE", file or "", reason) from None


def _unusable(variable: str, value: str, reason: str) -> UsageError:
    return UsageError(
        f"the certificates in {variable}={value!r} cannot be read: {reason}",
        hint=f"correct {variable}, or unset it to trust the usual authorities",
    )


def _parse_proxy(proxy: Proxy) -> tuple[httpcore.URL, tuple[str, str] | None]:
    """Return the address of a proxy, and its user and password. Raises UsageError."""
    try:
        parts = urlsplit(proxy.url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https", *_SOCKS):
        raise UsageError(
            f"{proxy.described} cannot be used: it is not an address of an http, https or socks5 proxy",
            hint="write it like http://proxy.example:3128, with `%40` and the like for special characters",
        )
    auth = (unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target="/"), auth


# --- one connection


class ConnectionStream(httpcore.NetworkStream):
    """One connection; every operation gets at most the time that is left until the deadline.

    `register` is called with it, and with the one that TLS makes of it. `to_proxy` is whether TLS on it is
    that of an https proxy.
    """

    def __init__(
        self,
        inner: httpcore.NetworkStream,
        register: Callable[[ConnectionStream], None],
        *,
        encrypted: bool = False,
        to_proxy: bool = False,
    ) -> None:
        self._inner = inner
        self._register = register
        self._encrypted = encrypted
        self._to_proxy = to_proxy
        register(self)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read up to the larger of `max_bytes` and a slice; "" at the end."""
        with (
            _deadline_errors()
        ):  # more at once than httpcore asks for: each piece costs a walk through layers
            return self._inner.read(max(max_bytes, _SLICE), remaining(timeout))

    def receive_into(self, memory: memoryview, timeout: float | None) -> int:
        """Fill the beginning of `memory` with what arrives next; return how much it is, 0 at the end."""
        if type(self._inner).__name__ != _PLAIN_STREAM:
            with _deadline_errors():
                piece = self._inner.read(len(memory), remaining(timeout))
            memory[: len(piece)] = piece
            return len(piece)
        connected: socket.socket = self._inner.get_extra_info("socket")
        connected.settimeout(remaining(timeout))
        try:
            return connected.recv_into(memory)
        except TimeoutError as error:
            remaining()
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

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
        """Write all of `buffer`. Raises WriteError when the peer has answered already."""
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
        """Shut the connection down."""
        found = self._inner.get_extra_info("socket")
        if found is not None:
            # This wakes a thread that reads from it, as closing alone does not. The method of a TLS socket
            # drops TLS first, and what another thread sends at that moment would leave unencrypted.
            with suppress(OSError):
                socket.socket.shutdown(found, socket.SHUT_RDWR)
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return this connection with TLS on it."""
        try:
            with _deadline_errors():
                inner = self._inner.start_tls(ssl_context, server_hostname, remaining(timeout))
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            if self._to_proxy:  # the first TLS of a connection to an https proxy is that of the proxy
                raise ProxyUnreachableError(str(error)) from error
            raise
        return ConnectionStream(inner, self._register, encrypted=True)

    def get_extra_info(self, info: str) -> Any:
        """See httpcore.NetworkStream.get_extra_info."""
        return self._inner.get_extra_info(info)


class ProxyUnreachableError(httpcore.ConnectError):
    """No connection to the proxy could be made."""


class ConnectionBackend(httpcore.NetworkBackend):
    """The network backend of httpcore: it opens `ConnectionStream`s.

    With `public_only` to public addresses only; with `proxy`, every connection is one to the proxy.
    """

    def __init__(self, *, public_only: bool = False, proxy: Proxy | None = None) -> None:
        self._inner = httpcore.SyncBackend()
        self._public_only = public_only
        self._proxy = proxy
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._open: WeakSet[ConnectionStream] = WeakSet()
        self._closed = False

    @property
    def made_one(self) -> bool:
        """Whether this thread has made a connection since it set this to False."""
        return getattr(self._of_thread, "made_one", False)

    @made_one.setter
    def made_one(self, value: bool) -> None:
        self._of_thread.made_one = value

    def close(self) -> None:
        """Close every connection that is open, also those being made, and let no other be made."""
        with self._lock:
            self._closed = True
        self.interrupt()

    def interrupt(self) -> None:
        """Close every connection that is open."""
        with self._lock:
            streams = list(self._open)
        for stream in streams:
            stream.close()

    def _register(self, stream: ConnectionStream) -> None:
        with self._lock:
            self._open.add(stream)
            if not self._closed:
                return
        stream.close()
        raise httpcore.ConnectError("the connections were closed")

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Open a connection. Raises ProxyUnreachableError where it is one to the proxy."""
        self.made_one = True
        if self._public_only:
            # Dial the address that was checked: the name may stand for another one in the next look-up.
            host = _checked_address(host, port)
        began = time.monotonic()
        with _deadline_errors(), self._proxy_errors():
            connected = self._inner.connect_tcp(
                host, port, remaining(timeout), local_address, socket_options or ()
            )
        _limit_buffers(connected, near=time.monotonic() - began < _NEAR)
        tls_proxy = self._proxy is not None and self._proxy.url.startswith("https:")
        self._of_thread.last = stream = ConnectionStream(connected, self._register, to_proxy=tls_proxy)
        return stream

    def close_last(self) -> None:
        """Close the last connection of this thread, which httpcore forgets when a proxy refused on it."""
        last = getattr(self._of_thread, "last", None)
        if last is not None:
            last.close()

    @contextmanager
    def _proxy_errors(self) -> Iterator[None]:
        try:
            yield
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            if self._proxy is None:
                raise
            raise ProxyUnreachableError(str(error)) from error


def _limit_buffers(connected: httpcore.NetworkStream, *, near: bool) -> None:
    """Let the system keep less that is unsent, and receive less ahead from a `near` peer.

    A killed download loses what was received ahead. For a far peer, a limit on that would limit the rate, as
    would one that the system makes smaller. A system that does not know an option works without it.
    """
    options = []
    if near and _largest_buffer() >= _NEAR_BUFFER:
        options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, _NEAR_BUFFER))
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT))
    for option in options:
        with suppress(OSError):
            connected.get_extra_info("socket").setsockopt(*option)


@cache
def _largest_buffer() -> float:
    """Return how many bytes of a receive buffer can be asked for; infinity where only asking tells.

    Linux makes a larger request smaller, without an error, and then adapts the buffer no longer (socket(7)).
    """
    try:
        return int(_LARGEST.read_bytes())
    except (OSError, ValueError):
        return inf


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
