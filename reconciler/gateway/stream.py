"""Sending an answer: the next piece is read in a thread while this one goes out.

A body that fails is not ended: without its last chunk, or short of its Content-Length, every HTTP client sees
that it is incomplete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from reconciler.errors import ReconcilerError
from reconciler.gateway.answers import Answer
from reconciler.gateway.limits import Limits
from reconciler.gateway.metrics import Metrics

_SLICE = 256 << 10  # bytes handed to the transport at once; it may hold one slice and 64 KiB
_TURN = 8  # pieces that one body sends before others that wait get their turn
_GATHER = 512 << 10  # small pieces are sent together, up to about this


@dataclass(frozen=True, slots=True)
class Connection:
    """One request as ASGI hands it over."""

    scope: Scope
    receive: Receive
    send: Send


class _Gone(Exception):
    """The client has hung up."""


class Sender:
    """Sends answers of one gateway."""

    def __init__(self, threads: Executor, metrics: Metrics, limits: Limits) -> None:
        self._threads = threads
        self._metrics = metrics
        self._stall = limits.stall_seconds
        self._bodies = asyncio.Semaphore(limits.bodies)

    async def send(
        self,
        answer: Answer,
        connection: Connection,
        extra: Mapping[str, str],
        cut_off: Callable[[str, str], None],
    ) -> None:
        """Send `answer`; when its body fails, tell `cut_off` (path, reason) and leave it unfinished."""
        headers = dict(answer.headers) | dict(extra)
        if answer.size is not None and answer.status != 304:
            headers["Content-Length"] = str(answer.size)
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": answer.status, "headers": fields}
        await connection.send(start)
        if connection.scope["method"] != "HEAD" and answer.status != 304:
            path = connection.scope["path"]
            try:
                await self._body(answer.body, connection)
            except _Gone:
                return
            except TimeoutError:
                cut_off(path, f"the client took nothing for {self._stall:g} seconds")
                return
            except ReconcilerError as error:
                cut_off(path, error.message)
                return
        await connection.send({"type": "http.response.body", "body": b""})

    async def _body(self, body: Iterator[bytes | memoryview], connection: Connection) -> None:
        gone = asyncio.Event()
        watch = asyncio.create_task(_watch(connection.receive, gone))
        try:
            more = True
            while more:
                async with self._bodies:
                    more = await self._turn(body, connection.send, gone)
        finally:
            watch.cancel()

    async def _turn(self, body: Iterator[bytes | memoryview], send: Send, gone: asyncio.Event) -> bool:
        """Send a few pieces; whether there may be more. Nothing of the body is in memory between turns."""
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(self._threads, _next, body)
        try:
            for number in range(_TURN):
                pieces = await ahead
                if not pieces:
                    return False
                if number < _TURN - 1:
                    ahead = loop.run_in_executor(self._threads, _next, body)
                for piece in pieces:
                    await self._piece(memoryview(piece), send, gone)
        finally:
            if not ahead.done():
                await asyncio.wait([ahead])
        return True

    async def _piece(self, view: memoryview, send: Send, gone: asyncio.Event) -> None:
        for start in range(0, len(view), _SLICE):
            part = view[start : start + _SLICE]
            await asyncio.wait_for(
                send({"type": "http.response.body", "body": part, "more_body": True}), self._stall
            )
            if gone.is_set():
                raise _Gone
            self._metrics.sent(len(part))


async def _watch(receive: Receive, gone: asyncio.Event) -> None:
    """Set `gone` when the client hangs up: sending tells nothing of it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def _next(body: Iterator[bytes | memoryview]) -> list[bytes | memoryview]:
    """The next pieces, about _GATHER bytes together; none at the end."""
    pieces: list[bytes | memoryview] = []
    size = 0
    for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size >= _GATHER:
            break
    return pieces
