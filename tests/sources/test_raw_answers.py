"""Answers that no HTTP library makes: each gives the right bytes, or one typed error, within its time."""

from __future__ import annotations

import hashlib
import random
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import pytest

from reconciler.errors import SourceChangedError
from reconciler.net.deadline import Timeouts
from reconciler.sources.interface import (
    SourceDefinition,
    SourceKind,
    SourceMismatchError,
    SourceProtocolError,
    SourceUnavailableError,
)
from reconciler.sources.open import open_source
from reconciler.sources.verify import ContentVerifier
from tests.conformance.sources import requested

NAME = "model.safetensors"
DATA = random.Random(7).randbytes((4 << 20) + 5)  # large enough for ranges
SUMS = f"{hashlib.sha256(DATA).hexdigest()}  {NAME}\n".encode()
PATIENCE = 0.3  # seconds that an answer without an end may take here
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Connection:
    """One request, and where its response goes; `part` are the bytes that it asks for."""

    out: BinaryIO
    socket: socket.socket
    start: int
    end: int
    is_range: bool
    ended: threading.Event

    @property
    def part(self) -> bytes:
        return DATA[self.start : self.end]

    def head(self, *more: str, length: object = None) -> bytes:
        """Return the head of the right response, with `more` header lines."""
        lines = [f"Content-Length: {len(self.part) if length is None else length}", *more]
        if self.is_range:
            lines.append(f"Content-Range: bytes {self.start}-{self.end - 1}/{len(DATA)}")
        status = "206 Partial Content" if self.is_range else "200 OK"
        return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()

    def reset(self) -> bytes:
        """Reset the connection in place of a response."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        raise ConnectionError

    def repeat(self, data: bytes, pause: float = 0) -> bytes:
        """Send `data` without an end."""
        while not self.ended.wait(pause) if pause else not self.ended.is_set():
            self.out.write(data)
        return b""


Behaviour = Callable[[Connection], bytes]


@dataclass
class RawServer:
    """The server: its address, and the headers of all requests."""

    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def raw_server(behave: Behaviour) -> Iterator[RawServer]:
    """Serve SUMS, and DATA as `behave` does: it returns the whole response, after which the line is cut."""
    server, ended = RawServer(), threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while (line := self.rfile.readline()) and not ended.is_set():
                method, target, _ = line.decode().split()
                headers: dict[str, str] = {}
                while text := self.rfile.readline().decode().strip():
                    name, _, value = text.partition(":")
                    headers[name.lower()] = value.strip()
                server.asked.append(headers)
                if target.endswith("SHA256SUMS"):
                    self.wfile.write(OK + b"Content-Length: %d\r\n\r\n" % len(SUMS) + SUMS)
                elif method == "HEAD":
                    self.wfile.write(OK + b"Content-Length: %d\r\n\r\n" % len(DATA))
                else:
                    first, _, last = headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
                    end = int(last) + 1 if last else len(DATA)
                    asked = (int(first), end, "range" in headers)
                    self.wfile.write(behave(Connection(self.wfile, self.connection, *asked, ended)))
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that hang up."""

    with Server(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            listener.shutdown()
            thread.join()


def read(url: str) -> bytes:
    """Return the verified bytes of the file, as one read."""
    definition = SourceDefinition("web", SourceKind.HTTP, url=url)
    with closing(open_source(definition, "m", root=None, environ={})) as source:
        file = next(file for file in source.list().files if file.path == NAME)
        verifier = ContentVerifier(source.name, file)
        found = bytearray()
        for piece in source.read(file):
            verifier.update(piece)
            found += piece
        verifier.finish()
    return bytes(found)


def request(url: str) -> bytes:
    """Return the verified bytes of the file, from two requests for ranges."""
    definition = SourceDefinition("web", SourceKind.HTTP, url=url)
    with closing(open_source(definition, "m", root=None, environ={})) as source:
        file = next(file for file in source.list().files if file.path == NAME)
        verifier = ContentVerifier(source.name, file)
        found = b""
        for start, end in ((0, 1 << 20), (1 << 20, file.size)):
            with closing(source.request(file, start, end)) as span:
                found += requested(span, 300_000)[: end - start]
        verifier.update(found)
        verifier.finish()
    return found


# --- lies

Refusal = tuple[Behaviour, type[Exception] | tuple[type[Exception], ...], str]

LIES: dict[str, Refusal] = {
    "gzip on a range": (
        lambda to: to.head("Content-Encoding: gzip") + to.part,
        SourceProtocolError,
        "in an encoding that was not requested",
    ),
    "two lengths": (
        lambda to: to.head("Content-Length: 7") + to.part,
        SourceUnavailableError,
        "conflicting Content-Length",
    ),
    "a negative length": (lambda to: to.head(length=-5) + to.part, SourceUnavailableError, "bad Content-L"),
    "a length with a sign": (lambda to: to.head(length="+5"), SourceUnavailableError, "bad Content-Length"),
    "a length of 10^5000": (
        lambda to: to.head(length="9" * 5000),
        SourceUnavailableError,
        "connection broke",
    ),
    "HTTP/0.9": (lambda to: to.part, SourceUnavailableError, "the connection broke"),
    "HTTP/1.0, truncated": (
        lambda to: b"HTTP/1.0 200 OK\r\n\r\n" + DATA[: 1 << 19],
        SourceUnavailableError,
        f"ends at byte {1 << 19}",
    ),
    "a negative chunk": (lambda to: CHUNKED + b"-5\r\nabcde\r\n", SourceUnavailableError, "connection broke"),
    "an endless chunk extension": (
        lambda to: CHUNKED + b"5;x=" + b"a" * (1 << 20),
        SourceUnavailableError,
        "connection broke",
    ),
    "endless headers": (
        lambda to: OK + b"X-Filler: 1\r\n" * 20_000,
        SourceUnavailableError,
        "the connection broke",
    ),
    "a status that is not a number": (
        lambda to: b"HTTP/1.1 2OO OK\r\n\r\n",
        SourceUnavailableError,
        "the connection broke",
    ),
    "a NUL in a header": (lambda to: to.head("X: a\0b"), SourceUnavailableError, "the connection broke"),
    "another protocol": (
        lambda to: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        SourceUnavailableError,
        "the connection broke",
    ),
    "no content": (lambda to: b"HTTP/1.1 204 No Content\r\n\r\n", SourceProtocolError, "HTTP 204"),
    "not modified": (lambda to: b"HTTP/1.1 304 Not Modified\r\n\r\n", SourceProtocolError, "HTTP 304"),
    "nothing": (lambda to: to.head(length=0), (SourceChangedError, SourceProtocolError), "instead of"),
    "two ranges in the head": (
        lambda to: to.head("Content-Range: bytes 0-9/10").replace(b"200 OK", b"206 Part") + to.part,
        (SourceProtocolError, SourceChangedError),
        "without a valid Content-Range|10 bytes now",
    ),
    "ranges in several parts": (
        lambda to: b"HTTP/1.1 206 P\r\nContent-Type: multipart/byteranges; boundary=x\r\n\r\n--x",
        SourceProtocolError,
        "without a valid Content-Range",
    ),
    "a range that ends before its start": (
        lambda to: b"HTTP/1.1 206 P\r\nContent-Range: bytes 9-0/%d\r\n\r\n" % len(DATA),
        SourceProtocolError,
        "came with bytes 9 to 0",
    ),
    "a range of another unit": (
        lambda to: b"HTTP/1.1 206 P\r\nContent-Range: octets 0-9/10\r\n\r\n",
        SourceProtocolError,
        "without a valid Content-Range",
    ),
    "a reset": (lambda to: to.reset(), SourceUnavailableError, "the connection broke"),
    "other bytes of the right length": (
        lambda to: to.head() + bytes(len(to.part)),
        SourceMismatchError,
        "does not have its SHA-256",
    ),
}
SLOW: dict[str, Behaviour] = {
    "a byte now and then": lambda to: to.out.write(to.head()) and to.repeat(b"x", 0.05),
    "a byte now and then, in chunks": lambda to: (
        to.out.write(to.head("Transfer-Encoding: chunked").replace(b"Content-Length", b"X"))
        and to.repeat(b"1\r\nx\r\n", 0.05)
    ),
    "a header now and then": lambda to: to.out.write(OK) and to.repeat(b"X: 1\r\n", 0.05),
    "early hints for ever": lambda to: to.repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.05),
}


@pytest.mark.parametrize("reader", [read, request])
@pytest.mark.parametrize(("behave", "error", "message"), LIES.values(), ids=LIES)
def test_an_answer_that_breaks_http_is_one_error(behave, error, message, reader):
    with raw_server(behave) as server, pytest.raises(error, match=message) as caught:
        reader(server.url)
    assert NAME in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("behave", SLOW.values(), ids=SLOW)
def test_an_answer_that_never_ends_ends_in_time(behave):
    """The time limit is that of the bytes that were asked for, whatever the size of the file."""
    with (
        raw_server(behave) as server,
        pytest.raises(SourceUnavailableError, match="the time limit of the whole request") as caught,
    ):
        definition = SourceDefinition("web", SourceKind.HTTP, url=server.url)
        with closing(open_source(definition, "m", root=None, environ={})) as source:
            file = next(file for file in source.list().files if file.path == NAME)
            (client,) = source._http._clients.values()
            client.timeouts = Timeouts(total=PATIENCE)
            requested(source.request(file, 5, 1000), 1000)
    assert NAME in str(caught.value)


# --- peculiarities

PECULIAR: dict[str, Behaviour] = {
    "HTTP/1.0 without a length": lambda to: b"HTTP/1.0 200 OK\r\n\r\n" + DATA,
    "more than announced": lambda to: to.head() + to.part + OK + b"Content-Length: 4\r\n\r\nevil",
    "trailers": lambda to: CHUNKED + b"%x\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(DATA), DATA),
    "a length and chunks": lambda to: (
        to.head("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(to.part), to.part)
    ),
    "an unexpected address": lambda to: to.head("Location: http://localhost:1/") + to.part,
    "a cookie": lambda to: to.head("Set-Cookie: tracked=1; Path=/") + to.part,
}


@pytest.mark.parametrize("reader", [read, request])
@pytest.mark.parametrize("behave", PECULIAR.values(), ids=PECULIAR)
def test_an_answer_that_is_peculiar_changes_no_byte(behave, reader):
    with raw_server(behave) as server:
        assert reader(server.url) == DATA
    assert not any("cookie" in headers for headers in server.asked)
