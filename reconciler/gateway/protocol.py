"""uvicorn's HTTP/1.1 protocol, extended to send long bodies directly through the socket.

In uvicorn, each piece of a body passes through the event loop, which costs more than the piece itself; nginx
uses sendfile for the same reason. uvicorn has no public hook for this, so this module depends on:

- h11: `Connection.send_with_data_passthrough`, documented for sendfile, with a `Data` event whose data only
  has a length. It counts the body for the connection's state without seeing it.
- uvicorn: `Config(http=...)` accepts a protocol class (documented). `H11Protocol` has the methods of an
  asyncio protocol and `on_response_complete`, and the attributes `app`, `conn`, `cycle.response_complete`,
  `loop` and `transport`. These are not documented.
- asyncio: `Transport.get_write_buffer_size` and `get_extra_info("socket")` (documented).

Tested with uvicorn 0.30 to 0.54 and h11 0.14 to 0.16. tests/gateway sends bodies through all of it, and fails
when one of these changes.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_EXTENSION = "reconciler.socket"
_POLL_SECONDS = 0.005  # between two checks whether the head was sent


class DirectProtocol(H11Protocol):
    """An HTTP/1.1 protocol that passes its connection to the application, in the extensions of the scope.

    `head_seconds` is the time in which a client must send the head of a request; uvicorn has no limit for a
    head that has begun.
    """

    head_seconds = 20.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self.app = _with_connection(self.app, self)
        self._expect_head()

    def on_response_complete(self) -> None:
        """Expect the head of the next request."""
        self._expect_head()
        super().on_response_complete()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(error)

    def _expect_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(self.head_seconds, self._close_without_request)

    def _close_without_request(self) -> None:
        responding = self.cycle is not None and not self.cycle.response_complete
        if not responding and not self.transport.is_closing():
            self.transport.close()


def _with_connection(app: Any, protocol: DirectProtocol) -> ASGIApp:
    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {**scope.get("extensions", {}), _EXTENSION: DirectConnection(protocol)}
        await app(scope, receive, send)

    return run


class _Length:
    """An object with a length, in the place of bytes that h11 only counts."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


class DirectConnection:
    """The socket of one request, used after the head of the response was sent and until its last chunk."""

    def __init__(self, protocol: DirectProtocol) -> None:
        self._protocol = protocol

    @property
    def is_encrypted(self) -> bool:
        """Whether bytes must go through the transport, which encrypts them."""
        return self._protocol.transport.get_extra_info("ssl_object") is not None

    @property
    def is_closed(self) -> bool:
        """Whether the client has disconnected."""
        return bool(self._protocol.transport.is_closing())

    async def socket(self) -> socket.socket | None:
        """Return a duplicate of the non-blocking socket once the head was sent; None when the client has
        disconnected.
        """
        transport: Any = self._protocol.transport
        while not transport.is_closing():
            if transport.get_write_buffer_size() == 0:
                return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            await asyncio.sleep(_POLL_SECONDS)
        return None

    def count(self, size: int) -> bool:
        """Report to h11 that `size` bytes of a body of known length were sent; False when the client has
        disconnected.
        """
        if self._protocol.transport.is_closing():
            return False
        self._protocol.conn.send_with_data_passthrough(h11.Data(data=_Length(size)))  # type: ignore[arg-type]
        return True


def direct_connection(scope: Scope) -> DirectConnection | None:
    """Return the DirectConnection that the protocol stored in the ASGI scope of a request."""
    found: DirectConnection | None = scope.get("extensions", {}).get(_EXTENSION)
    return found
