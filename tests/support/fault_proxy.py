"""A TCP proxy that injects faults into HTTP connections to a peer.

    with FaultProxy("127.0.0.1", port) as proxy:
        proxy.arm(Cut(0.5, reset=True), path="/dag/import", times=1)
        ... talk to proxy.url instead of the peer ...
        assert proxy.hits == 1

Each connection carries one request, so that faults can be selected by path. `FAULTS` lists the faults to
test for every endpoint.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_HEAD_LIMIT = 1 << 20


@dataclass(frozen=True)
class Answer:
    """Send this response instead of the peer's.

    With `carried`, the peer handles the request first, and its response is dropped.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    carried: bool = False


@dataclass(frozen=True)
class Cut:
    """Send `share` of the peer's response (0: nothing, 1: all but the last byte), then close or reset."""

    share: float
    reset: bool = False


@dataclass(frozen=True)
class Stall:
    """Send `share` of the peer's response, then stall with the connection open."""

    share: float = 0.0


@dataclass(frozen=True)
class Drip:
    """Send the peer's response byte by byte, `delay` seconds apart."""

    delay: float = 0.05


@dataclass(frozen=True)
class WrongLength:
    """Send a Content-Length that is wrong by `by` bytes."""

    by: int


@dataclass(frozen=True)
class Endless:
    """Send status 200 and an endless body."""

    piece: bytes = b'{"Keys":{}}\n' * 4096


@dataclass(frozen=True)
class ResetRequest:
    """Reset after `after` bytes of the request's body; the peer receives nothing."""

    after: int = 0


@dataclass(frozen=True)
class Unread:
    """Read nothing after the header of the request, and keep the connection open; the peer gets nothing."""


Fault = Answer | Cut | Stall | Drip | WrongLength | Endless | ResetRequest | Unread

FAULTS: dict[str, Fault] = {
    "reset-at-once": ResetRequest(0),
    "reset-while-sending": ResetRequest(1000),
    "reset-first": Cut(0.0, reset=True),
    "reset-middle": Cut(0.5, reset=True),
    "reset-last": Cut(1.0, reset=True),
    "truncated-first": Cut(0.0),
    "truncated-middle": Cut(0.5),
    "truncated-last": Cut(1.0),
    "stalled": Stall(0.0),
    "stalled-middle": Stall(0.5),
    "drip": Drip(),
    "429": Answer(429),
    "429-retry-after": Answer(429, (("Retry-After", "2"),)),
    "500": Answer(500, body=b"internal error"),
    "502": Answer(502, (("Content-Type", "text/html"),), b"<html>bad gateway</html>"),
    "503": Answer(503),
    "503-retry-after": Answer(503, (("Retry-After", "1"),)),
    "500-carried-out": Answer(500, body=b"lost on the way back", carried=True),
    "length-too-long": WrongLength(+10),
    "length-too-short": WrongLength(-10),
    "html-200": Answer(200, (("Content-Type", "text/html"),), b"<!doctype html><title>Welcome</title>"),
    "endless": Endless(),
    "redirect": Answer(307, (("Location", "http://192.0.2.1/elsewhere"),)),
}

#: faults that only a time limit ends; all others are detected at once
SLOW = frozenset(name for name, fault in FAULTS.items() if isinstance(fault, Stall | Drip | Endless))


@dataclass
class _Armed:
    fault: Fault
    path: str
    times: int | None
    skip: int


@dataclass
class FaultProxy:
    """A proxy in its own thread. `paths` are all requests, `hits` is the number of injected faults."""

    host: str
    port: int
    url: str = ""
    paths: list[str] = field(default_factory=list)
    hits: int = 0
    _armed: list[_Armed] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, fault: Fault, *, path: str = "", times: int | None = None, skip: int = 0) -> None:
        """Inject a fault into `times` requests (None: all) that contain `path`, after `skip` others."""
        with self._lock:
            self._armed.append(_Armed(fault, path, times, skip))

    def disarm(self) -> None:
        """Inject no more faults, and reset the counters."""
        with self._lock:
            self._armed.clear()
            self.hits = 0
            self.paths.clear()

    def down(self) -> None:
        """Stop listening: connections are refused."""
        self._run(self._close_server())

    def up(self) -> None:
        """Listen again on the same port."""
        self._run(self._listen(self._own_port))

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._own_port = 0
        self.up()
        self.url = f"http://127.0.0.1:{self._own_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._run(self._drop_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Awaitable[None]) -> None:
        async def awaited() -> None:
            await work

        asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(10)

    async def _listen(self, port: int) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
            self._own_port = self._server.sockets[0].getsockname()[1]

    async def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _drop_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._one(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            with suppress(OSError, RuntimeError):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await _read_head(reader)
        target = head.split(b" ", 2)[1].decode("latin-1")
        fault = self._fault_for(target)
        if isinstance(fault, ResetRequest):
            if fault.after:
                with suppress(asyncio.IncompleteReadError):
                    await asyncio.wait_for(reader.readexactly(fault.after), 0.5)
            _reset(writer)
        elif isinstance(fault, Unread):
            await asyncio.Event().wait()
        elif isinstance(fault, Answer) and not fault.carried:
            await _say(writer, fault)
        elif isinstance(fault, Endless):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
            while True:
                writer.write(fault.piece)
                await writer.drain()
        else:
            await self._relay(head, reader, writer, fault)

    def _fault_for(self, target: str) -> Fault | None:
        with self._lock:
            self.paths.append(target)
            for armed in self._armed:
                if armed.path not in target or armed.times == 0:
                    continue
                if armed.skip > 0:
                    armed.skip -= 1
                    continue
                if armed.times is not None:
                    armed.times -= 1
                self.hits += 1
                return armed.fault
        return None

    async def _relay(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fault: Fault | None,
    ) -> None:
        up_reader, up_writer = await asyncio.open_connection(self.host, self.port)
        try:
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            lines.insert(1, b"Connection: close")
            up_writer.write(b"\r\n".join(lines))
            sending = asyncio.ensure_future(_pump(reader, up_writer))
            try:
                if fault is None:
                    await _pump(up_reader, writer)
                else:
                    await _break(fault, await up_reader.read(-1), writer)
            finally:
                sending.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await sending
        finally:
            up_writer.close()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(1 << 18):
        writer.write(piece)
        await writer.drain()


async def _say(writer: asyncio.StreamWriter, answer: Answer) -> None:
    names = {name.lower() for name, _ in answer.headers}
    lines = [f"HTTP/1.1 {answer.status} Fault", f"Content-Length: {len(answer.body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if "content-type" not in names:
        lines.append("Content-Type: text/plain")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body)
    await writer.drain()
    await asyncio.sleep(0.05)  # closing with unread bytes sends a reset, which may overtake the response


async def _break(fault: Fault, answer: bytes, writer: asyncio.StreamWriter) -> None:
    if isinstance(fault, Answer):
        await _say(writer, fault)
    elif isinstance(fault, WrongLength):
        head, body = _framed(answer)
        writer.write(head + f"Content-Length: {max(0, len(body) + fault.by)}\r\n\r\n".encode() + body)
        await writer.drain()
    elif isinstance(fault, Drip):
        for byte in answer:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(fault.delay)
    elif isinstance(fault, Cut | Stall):
        kept = min(int(len(answer) * fault.share), len(answer) - 1)
        writer.write(answer[:kept])
        await writer.drain()
        if isinstance(fault, Stall):
            await asyncio.Event().wait()
        elif fault.reset:
            await asyncio.sleep(0.02)  # otherwise the reset overtakes the bytes before it
            _reset(writer)


def _framed(answer: bytes) -> tuple[bytes, bytes]:
    """Return the header lines without framing, and the body without chunks."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if re.search(rb"(?im)^transfer-encoding:\s*chunked", head):
        body = _unchunked(body)
    framing = re.compile(rb"(?i)(content-length|transfer-encoding|trailer):")
    kept = [line for line in head.split(b"\r\n") if not framing.match(line)]
    return b"\r\n".join(kept) + b"\r\n", body


def _unchunked(body: bytes) -> bytes:
    out = bytearray()
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if length == 0:
            break
        out += rest[:length]
        body = rest[length + 2 :]
    return bytes(out)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
