"""uvicorn's HTTP/1.1 protocol, which lets a long body go past it, straight to the socket.

The event loop costs more a piece than the piece itself; nginx has sendfile for the same reason. h11 keeps
count of a body that it does not see, as its documentation provides for sendfile.
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
_FLUSH_SECONDS = 0.005  # between two looks at whether the head has gone out


class DirectProtocol(H11Protocol):
    """Hands its connection on to the application, in the extensions of the scope.

    `head_seconds` is how long a client may take for the head of a request; uvicorn itself waits for ever for
    one that has begun.
    """

    head_seconds = 20.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """As asyncio says."""
        super().connection_made(transport)
        self.app = _with_connection(self.app, self)
        self._expect_head()

    def on_response_complete(self) -> None:
        """As uvicorn says: the connection may bring another request."""
        self._expect_head()
        super().on_response_complete()

    def connection_lost(self, error: Exception | None) -> None:
        """As asyncio says."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(error)

    def _expect_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(self.head_seconds, self._end_unless_asked)

    def _end_unless_asked(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if not answering and not self.transport.is_closing():
            self.transport.close()


def _with_connection(app: Any, protocol: DirectProtocol) -> ASGIApp:
    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {**scope.get("extensions", {}), _EXTENSION: DirectConnection(protocol)}
        await app(scope, receive, send)

    return run


class _Length:
    """Stands for that many bytes where h11 counts."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


class DirectConnection:
    """The socket below one request. Used after the head of the answer was sent, until its last chunk."""

    def __init__(self, protocol: DirectProtocol) -> None:
        self._protocol = protocol

    async def socket(self) -> socket.socket | None:
        """A duplicate of the socket, non-blocking, once the head has gone out; None when the client has."""
        transport: Any = self._protocol.transport
        while not transport.is_closing():
            if transport.get_write_buffer_size() == 0:
                return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            await asyncio.sleep(_FLUSH_SECONDS)
        return None

    def count(self, size: int) -> bool:
        """Tell h11 that `size` bytes of a body of known length went out; False when the client is gone."""
        if self._protocol.transport.is_closing():
            return False
        self._protocol.conn.send_with_data_passthrough(h11.Data(data=_Length(size)))  # type: ignore[arg-type]
        return True


def direct(scope: Scope) -> DirectConnection:
    """The connection below a request."""
    found: DirectConnection = scope["extensions"][_EXTENSION]
    return found
