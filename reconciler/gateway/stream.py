"""Sending of responses. A long body is written to the socket by a thread, while another one reads ahead.

A body that fails is not ended: without its last chunk, or shorter than its Content-Length, every HTTP client
recognizes it as incomplete.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from reconciler.errors import DataError, ReconcilerError
from reconciler.gateway.admission import Metrics, ServeLimits
from reconciler.gateway.protocol import DirectConnection, direct_connection
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.responses import GatewayResponse

_SHORT = 64 << 10  # bytes up to which a body is sent together with the head
_TURN = 16  # pieces that one body sends before waiting ones get their turn
_GATHER = 512 << 10  # small pieces are sent together, up to about this
_MANY = 8  # buffers from which joining is faster; sendmsg(2) accepts about a thousand
_OTHER_LENGTH = "the content has another length than its parent nodes declare"
_PATIENCE = 1000  # milliseconds that a thread waits for a client; after that, the event loop waits


@dataclass(frozen=True, slots=True)
class AsgiRequest:
    """The arguments of an ASGI application for one request."""

    scope: Scope
    receive: Receive
    send: Send


@dataclass(slots=True)
class _SendingBody:
    """A body that is being sent.

    `rest` is the unsent part of the current piece, `ahead` the next piece, which is not read ahead for a slow
    client. `left` is the number of bytes that are missing to the declared length, None for a chunked body.
    """

    pieces: Iterator[bytes | memoryview]
    left: int | None
    socket: socket.socket
    rest: list[memoryview] = field(default_factory=list)
    ahead: Future[list[bytes | memoryview]] | None = None
    slow: bool = False
    ended: bool = False


class Sender:
    """The sender of the responses of one gateway."""

    def __init__(self, readers: Executor, metrics: Metrics, limits: ServeLimits) -> None:
        self._readers = readers
        self._metrics = metrics
        self._stall = limits.stall_seconds
        self._turns = asyncio.Semaphore(limits.bodies)
        self._writers = ThreadPoolExecutor(limits.bodies, thread_name_prefix="gateway-body")

    def close(self) -> None:
        """Stop the threads."""
        self._writers.shutdown(wait=False, cancel_futures=True)

    async def send(
        self,
        response: GatewayResponse,
        request: AsgiRequest,
        extra: Mapping[str, str],
        cut_off: Callable[[str, str], None],
    ) -> None:
        """Send `response`; when its body fails, call `cut_off` (path, reason) and leave it incomplete.

        Raises RequestRefusedError when a short body fails, before anything was sent.
        """
        path = request.scope["path"]
        empty = request.scope["method"] == "HEAD" or response.status == 304
        short = b""
        if not empty and response.size is not None and response.size <= _SHORT:
            loop = asyncio.get_running_loop()
            try:
                short = await loop.run_in_executor(self._readers, b"".join, response.body)
            except ReconcilerError as error:
                cut_off(path, error.message)
                raise RequestRefusedError(500, "a block of this content is missing or damaged") from None
        headers = dict(response.headers) | dict(extra)
        if response.size is not None and response.status != 304:
            headers["Content-Length"] = str(response.size)
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": response.status, "headers": fields}
        await request.send(start)
        if not empty and not short and response.size != 0:
            try:
                connection = direct_connection(request.scope)
                if connection is None or connection.is_encrypted:
                    await self._send_encrypted(response, request, connection)
                elif not await self._send_long(response, connection):
                    return
            except ConnectionError:  # the client has disconnected
                return
            except _ClientStalledError:
                cut_off(path, f"the client accepted no data for {self._stall:g} seconds")
                return
            except ReconcilerError as error:
                cut_off(path, error.message)
                return
            except OSError as error:
                cut_off(path, (error.strerror or str(error)).lower())
                return
        self._metrics.count_sent(len(short))
        await request.send({"type": "http.response.body", "body": short})

    async def _send_encrypted(
        self, response: GatewayResponse, request: AsgiRequest, connection: DirectConnection | None
    ) -> None:
        """Send a long body through the transport, which encrypts it, until the client disconnects.

        Raises _ClientStalledError, DataError for a body of another length, and what the body raises.
        """
        loop = asyncio.get_running_loop()
        left = response.size
        while pieces := await loop.run_in_executor(self._readers, _next_pieces, response.body):
            if connection is not None and connection.is_closed:
                raise ConnectionResetError
            data = b"".join(pieces)
            pieces.clear()  # a slow client holds one copy
            left = None if left is None else left - len(data)
            if left is not None and left < 0:
                break
            message = {"type": "http.response.body", "body": data, "more_body": True}
            try:
                await asyncio.wait_for(request.send(message), self._stall)
            except TimeoutError:
                raise _ClientStalledError from None
            self._metrics.count_sent(len(data))
        if left:
            raise DataError(_OTHER_LENGTH)

    async def _send_long(self, response: GatewayResponse, connection: DirectConnection) -> bool:
        """Send a long body directly through the socket; False when the client has disconnected."""
        try:
            duplicate = await asyncio.wait_for(connection.socket(), self._stall)
        except TimeoutError:
            raise _ClientStalledError from None
        if duplicate is None:
            return False
        loop = asyncio.get_running_loop()
        with duplicate:
            body = _SendingBody(response.body, response.size, duplicate)
            while not body.ended:
                async with self._turns:
                    await loop.run_in_executor(self._writers, self._send_turn, body)
                if body.rest:
                    await self._wait_writable(duplicate)
        return response.size is None or connection.count(response.size)

    def _send_turn(self, body: _SendingBody) -> None:
        """Send some pieces, in a thread. Returns when they are sent, or when the client is slow.

        Raises OSError when the client has disconnected, and what the body raises.
        """
        if not _write(body):
            return
        for number in range(_TURN):
            pieces = body.ahead.result() if body.ahead else _next_pieces(body.pieces)
            last = number == _TURN - 1 or body.slow or not pieces
            body.ahead = None if last else self._readers.submit(_next_pieces, body.pieces)
            size = sum(map(len, pieces))
            if body.left is not None:
                body.left -= size
                if body.left < 0 or (body.left and not pieces):
                    raise DataError(_OTHER_LENGTH)
            if not pieces:
                body.ended = True
                return
            body.rest = [memoryview(piece) for piece in pieces if len(piece)]
            if body.left is None:
                body.rest = [memoryview(b"%x\r\n" % size), *body.rest, memoryview(b"\r\n")]
            self._metrics.count_sent(size)
            if not _write(body):
                return

    async def _wait_writable(self, duplicate: socket.socket) -> None:
        """Wait until a slow client accepts more. Raises _ClientStalledError."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def notify() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_writer(duplicate.fileno(), notify)
        try:
            await asyncio.wait_for(ready, self._stall)
        except TimeoutError:
            raise _ClientStalledError from None
        finally:
            loop.remove_writer(duplicate.fileno())


class _ClientStalledError(Exception):
    """The client accepts no data."""


def _write(body: _SendingBody) -> bool:
    """Send the rest of a piece; False when the client accepts nothing for _PATIENCE. Raises OSError."""
    poll = select.poll()
    poll.register(body.socket, select.POLLOUT)
    while body.rest:
        try:
            sent = body.socket.sendmsg(body.rest)
        except BlockingIOError:
            if not poll.poll(0 if body.slow else _PATIENCE):
                body.slow = True
                return False
            continue
        while body.rest and sent >= len(body.rest[0]):
            sent -= len(body.rest.pop(0))
        if sent:
            body.rest[0] = body.rest[0][sent:]
    return True


def _next_pieces(body: Iterator[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the next pieces, about _GATHER bytes together; [] at the end. Many small ones are joined."""
    pieces: list[bytes | memoryview] = []
    size = 0
    for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size >= _GATHER:
            break
    return [b"".join(pieces)] if len(pieces) > _MANY else pieces
