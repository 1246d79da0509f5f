"""Counters in the text format of Prometheus. Source: its exposition format, version 0.0.4.

Sending an answer. A long body is written to the socket by a thread, while another one reads ahead.

A body that fails is not ended: without its last chunk, or short of its Content-Length, every HTTP client sees
that it is incomplete.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from reconciler.errors import DataError, ReconcilerError
from reconciler.gateway.protocol import direct
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.responses import GatewayResponse
from reconciler.gateway.stores import ServeLimits

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "reconciler_gateway"


class Metrics:
    """What happened since the start. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._sent = 0
        self._cut_off = 0
        self.active = 0

    def answered(self, kind: str, status: int) -> None:
        """One answer began; `kind` is content, raw, car or other."""
        with self._lock:
            self._requests[kind, status] += 1

    def sent(self, size: int) -> None:
        """`size` bytes of a body went out."""
        with self._lock:
            self._sent += size

    def cut_off(self) -> None:
        """An answer could not be finished."""
        with self._lock:
            self._cut_off += 1

    def text(self, *, roots: int, blocks: int) -> str:
        """The page at /metrics."""
        with self._lock:
            return "\n".join((*self._lines(roots, blocks), ""))

    def _lines(self, roots: int, blocks: int) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests answered, by kind and status.")
        for (kind, status), number in sorted(self._requests.items()):
            yield f'{_PREFIX}_requests_total{{kind="{kind}",status="{status}"}} {number}'
        for name, kind, text, value in (
            ("sent_bytes_total", "counter", "Bytes of bodies sent.", self._sent),
            ("cut_off_total", "counter", "Answers cut off: a block missing or damaged.", self._cut_off),
            ("requests_active", "gauge", "Requests being answered now.", self.active),
            ("roots", "gauge", "Roots that the stores vouch for.", roots),
            ("blocks", "gauge", "Blocks in the stores.", blocks),
        ):
            yield from _head(name, kind, text)
            yield f"{_PREFIX}_{name} {value}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {_PREFIX}_{name} {text}", f"# TYPE {_PREFIX}_{name} {kind}"


_SHORT = 64 << 10  # bytes of a body that is sent with its head
_TURN = 16  # pieces that one body sends before others that wait get their turn
_GATHER = 512 << 10  # small pieces are sent together, up to about this
_MANY = 8  # a system takes about a thousand buffers at once, and few are sent quicker
_PATIENCE = 1000  # milliseconds that a thread waits for a client; for one that was slow the event loop waits


@dataclass(frozen=True, slots=True)
class Connection:
    """One request as ASGI hands it over."""

    scope: Scope
    receive: Receive
    send: Send


@dataclass(slots=True)
class _Body:
    """A body on its way.

    `rest` is what the client did not take yet of the piece that is being sent, `ahead` the piece after it; of
    a client that was seen to be slow nothing is read ahead. `left` is what the announced length still lacks,
    None for a body in chunks.
    """

    pieces: Iterator[bytes | memoryview]
    left: int | None
    socket: socket.socket
    rest: list[memoryview] = field(default_factory=list)
    ahead: Future[list[bytes | memoryview]] | None = None
    slow: bool = False
    ended: bool = False


class Sender:
    """Sends answers of one gateway."""

    def __init__(self, readers: Executor, metrics: Metrics, limits: ServeLimits) -> None:
        self._readers = readers
        self._metrics = metrics
        self._stall = limits.stall_seconds
        self._turns = asyncio.Semaphore(limits.bodies)
        self._writers = ThreadPoolExecutor(limits.bodies, thread_name_prefix="gateway-body")

    def close(self) -> None:
        """End the threads."""
        self._writers.shutdown(wait=False, cancel_futures=True)

    async def send(
        self,
        answer: GatewayResponse,
        connection: Connection,
        extra: Mapping[str, str],
        cut_off: Callable[[str, str], None],
    ) -> None:
        """Send `answer`; when its body fails, tell `cut_off` (path, reason) and leave it unfinished.

        Raises RequestRefusedError when a short body fails, before anything was sent.
        """
        path = connection.scope["path"]
        empty = connection.scope["method"] == "HEAD" or answer.status == 304
        short = b""
        if not empty and answer.size is not None and answer.size <= _SHORT:
            loop = asyncio.get_running_loop()
            try:
                short = await loop.run_in_executor(self._readers, b"".join, answer.body)
            except ReconcilerError as error:
                cut_off(path, error.message)
                raise RequestRefusedError(500, "a block of this content is missing or damaged here") from None
        headers = dict(answer.headers) | dict(extra)
        if answer.size is not None and answer.status != 304:
            headers["Content-Length"] = str(answer.size)
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": answer.status, "headers": fields}
        await connection.send(start)
        if not empty and not short and answer.size != 0:
            try:
                if not await self._long(answer, connection.scope):
                    return
            except ConnectionError:  # the client has hung up
                return
            except _ClientStalledError:
                cut_off(path, f"the client took nothing for {self._stall:g} seconds")
                return
            except ReconcilerError as error:
                cut_off(path, error.message)
                return
            except OSError as error:
                cut_off(path, (error.strerror or str(error)).lower())
                return
        self._metrics.sent(len(short))
        await connection.send({"type": "http.response.body", "body": short})

    async def _long(self, answer: GatewayResponse, scope: Scope) -> bool:
        """Send a long body past the event loop; False when there is nobody to send it to."""
        below = direct(scope)
        try:
            duplicate = await asyncio.wait_for(below.socket(), self._stall)
        except TimeoutError:
            raise _ClientStalledError from None
        if duplicate is None:
            return False
        loop = asyncio.get_running_loop()
        with duplicate:
            body = _Body(answer.body, answer.size, duplicate)
            while not body.ended:
                async with self._turns:
                    await loop.run_in_executor(self._writers, self._turn, body)
                if body.rest:
                    await self._writable(duplicate)
        return answer.size is None or below.count(answer.size)

    def _turn(self, body: _Body) -> None:
        """Send some pieces, in a thread; back when they are sent, or the client takes nothing for a moment.

        Raises OSError when the client has hung up, and what the body raises.
        """
        if not _write(body):
            return
        for number in range(_TURN):
            pieces = body.ahead.result() if body.ahead else _next(body.pieces)
            last = number == _TURN - 1 or body.slow or not pieces
            body.ahead = None if last else self._readers.submit(_next, body.pieces)
            size = sum(map(len, pieces))
            if body.left is not None:
                body.left -= size
                if body.left < 0 or (body.left and not pieces):
                    raise DataError("the content has another length than the nodes above it say")
            if not pieces:
                body.ended = True
                return
            body.rest = [memoryview(piece) for piece in pieces if len(piece)]
            if body.left is None:
                body.rest = [memoryview(b"%x\r\n" % size), *body.rest, memoryview(b"\r\n")]
            self._metrics.sent(size)
            if not _write(body):
                return

    async def _writable(self, duplicate: socket.socket) -> None:
        """Wait until a slow client takes more. Raises _ClientStalledError."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_writer(duplicate.fileno(), tell)
        try:
            await asyncio.wait_for(ready, self._stall)
        except TimeoutError:
            raise _ClientStalledError from None
        finally:
            loop.remove_writer(duplicate.fileno())


class _ClientStalledError(Exception):
    """The client takes nothing."""


def _write(body: _Body) -> bool:
    """Send what is left of a piece; False when the client does not take all of it soon. Raises OSError."""
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


def _next(body: Iterator[bytes | memoryview]) -> list[bytes | memoryview]:
    """The next pieces, about _GATHER bytes together; none at the end. Many small ones become one."""
    pieces: list[bytes | memoryview] = []
    size = 0
    for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size >= _GATHER:
            break
    return [b"".join(pieces)] if len(pieces) > _MANY else pieces
