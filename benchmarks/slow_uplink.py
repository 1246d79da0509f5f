"""A line that takes requests slowly: a proxy in front of a peer limits the rate of each connection to it.

It reads no faster than the line carries, from small receive buffers, so a client cannot put more into the
line than a real one would hold. The delay of a round trip is added to the way of the requests, and once more
for the handshake of a new connection; responses pass at once.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from benchmarks.slow_line import accepting

_LATE = 0.1  # seconds that a busy machine may wake the proxy too late without slowing the line down
_BUFFER = 1 << 18  # bytes; the kernel doubles it
_PIECE = 1 << 16


@dataclass
class SlowUplink:
    """A peer behind a slow line; `sent` counts the bytes of clients, `most` the connections at one time."""

    url: str
    sent: int = 0
    open: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def slow_uplink(port: int, *, rate: float, delay: float) -> Iterator[SlowUplink]:
    """Run the proxy in front of `port`: `rate` bytes per second and connection, `delay` seconds away."""
    line = SlowUplink("")
    with accepting(lambda client: _carry(client, port, rate, delay, line), _BUFFER) as line.url:
        yield line


def _carry(client: socket.socket, port: int, rate: float, delay: float, line: SlowUplink) -> None:
    """Carry one connection: requests slowly and after the delay, responses at once."""
    with line.lock:
        line.open += 1
        line.most = max(line.most, line.open)
    try:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answered = threading.Event()
            back = threading.Thread(target=_carry_back, args=(server, client, answered), daemon=True)
            back.start()
            with suppress(OSError):
                _carry_requests(client, server, rate, delay, line, answered)
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            back.join()
    finally:
        with line.lock:
            line.open -= 1


def _carry_requests(
    client: socket.socket,
    server: socket.socket,
    rate: float,
    delay: float,
    line: SlowUplink,
    answered: threading.Event,
) -> None:
    buffer = bytearray(_PIECE)
    wait, free_at = 2 * delay, 0.0  # the first delay has the handshake in it
    answered.set()
    while count := client.recv_into(buffer):
        if answered.is_set():  # a new request
            answered.clear()
            time.sleep(wait)
            wait = delay
        free_at = max(free_at, time.monotonic() - _LATE) + count / rate
        with line.lock:
            line.sent += count
        server.sendall(memoryview(buffer)[:count])
        if (pause := free_at - time.monotonic()) > 0:
            time.sleep(pause)


def _carry_back(server: socket.socket, client: socket.socket, answered: threading.Event) -> None:
    buffer = bytearray(_PIECE)
    with suppress(OSError):
        while count := server.recv_into(buffer):
            answered.set()
            client.sendall(memoryview(buffer)[:count])
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
