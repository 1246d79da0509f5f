"""A limit on the whole of a request, held at the socket.

httpx limits the silence between two reads, so a peer that drips one byte a second is never late. Every socket
operation here gets at most what is left until the deadline that the current thread has set.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from reconciler.net.address import public_address

_PIECE = 1 << 19  # bytes of a long body read at once; more of them leave the caches of the processor
_LONG = 4 << 20  # bytes of a body that are worth a connection
_SLICE = 1 << 18  # bytes read at once, or written between two looks at whether the peer has answered

_current = threading.local()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, of silence while sending or reading, for a whole request without its upload."""

    connect: float = 10.0
    silence: float = 60.0
    total: float = 300.0


class DeadlineExceededError(Exception):
    """The request as a whole took too long."""


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Limit this thread's requests to `seconds` in total (None: no limit). Raises DeadlineExceededError."""
    outer = getattr(_current, "at", None)
    _current.at = None if seconds is None else time.monotonic() + seconds
    try:
        yield
    finally:
        _current.at = outer


def remaining(timeout: float | None = None) -> float | None:
    """Seconds left, at most `timeout`; None: no limit. Raises DeadlineExceededError when there are none."""
    at = getattr(_current, "at", None)
    if at is None:
        return timeout
    left = float(at) - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError
    return left if timeout is None else min(left, timeout)


@contextmanager
def _named() -> Iterator[None]:
    """Tell a time-out that is really the deadline's."""
    try:
        yield
    except httpcore.TimeoutException:
        remaining()
        raise


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, *, encrypted: bool = False) -> None:
        self._inner = inner
        self.encrypted = encrypted

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _named():  # more at once than httpx asks for: every piece costs a walk through its layers
            return self._inner.read(max(max_bytes, _SLICE), remaining(timeout))

    def rest_of_body(self, size: int, timeout: float | None) -> Iterator[bytes]:
        """The next `size` bytes straight from the socket, of which nobody has read any yet."""
        while size:
            with _named():
                piece = self._inner.read(min(size, _PIECE), remaining(timeout))
            if not piece:
                raise httpcore.RemoteProtocolError(f"the peer closed it {size} bytes too early")
            size -= len(piece)
            yield piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            self._stop_when_answered()
            try:
                with _named():
                    self._inner.write(rest[:_SLICE], remaining(timeout))  # type: ignore[arg-type]  # no copy
            except httpcore.WriteTimeout:
                self._stop_when_answered()
                raise
            rest = rest[_SLICE:]

    def _stop_when_answered(self) -> None:
        # A peer may answer (403, say) and then neither read on nor hang up. httpcore reads the response after
        # a failed write, so an answer that is already there ends the sending. TLS has bytes of its own.
        if not self.encrypted and self._inner.get_extra_info("is_readable"):
            raise httpcore.WriteError("the peer has answered already")

    def close(self) -> None:
        found = self._inner.get_extra_info("socket")
        if found is not None:
            with suppress(OSError):  # wakes who reads from it in another thread, as closing alone does not
                found.shutdown(socket.SHUT_RDWR)
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        with _named():
            inner = self._inner.start_tls(ssl_context, server_hostname, remaining(timeout))
        return _Stream(inner, encrypted=True)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
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
            # The address that was checked is the one that is connected to: a name may mean another one later.
            host = _checked(host, port)
        with _named():
            return _Stream(
                self._inner.connect_tcp(host, port, remaining(timeout), local_address, socket_options)
            )


def body_of(response: httpx.Response) -> Iterator[bytes]:
    """The body of a response that is being streamed, as it comes and never decoded.

    httpx and h11 copy every byte four times, which costs more than receiving it. What is left of a long body
    after their first piece, which is all that they hold, comes from the socket; the connection cannot be used
    again. Raises what httpx or httpcore raise.
    """
    pieces = response.iter_raw()
    stream = response.extensions.get("network_stream")
    length = response.headers.get("Content-Length", "")
    if (
        not isinstance(stream, _Stream)
        or stream.encrypted
        or "Transfer-Encoding" in response.headers
        or not (length.isascii() and length.isdigit() and int(length) > _LONG)
    ):
        yield from pieces
        return
    first = next(pieces, b"")
    if not first:  # an answer to HEAD has the length of another one
        return
    yield first
    timeout = response.request.extensions.get("timeout", {}).get("read")
    yield from stream.rest_of_body(int(length) - len(first), timeout)


def _checked(host: str, port: int) -> str:
    try:
        address = public_address(host, port)
    except OSError as error:
        raise httpcore.ConnectError(error.strerror or str(error)) from None
    if address is None:
        raise httpcore.ConnectError("its address is not a public one")
    return address


def hold(client: httpx.Client, *, public_only: bool = False) -> None:
    """Make every connection of `client` keep the deadlines of its threads, and go to public addresses only
    where that is asked for.
    """
    # httpx has no public way to say which network backend its pools use; tests/net/test_client.py drips a
    # header to see that this still works.
    for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = _Backend(public_only=public_only)  # noqa: SLF001
