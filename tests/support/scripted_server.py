"""An HTTP server in threads for tests of sources: answers may be cut off and have false lengths."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.http_peer import Asked

RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Sent:
    """One response. `cut` ends the connection after so many bytes of the body; `chunked` states no length."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    chunked: bool = False

    def but(self, **changes) -> Sent:
        headers = {**self.headers, **changes.pop("headers", {})}
        return replace(self, headers={k: v for k, v in headers.items() if v is not None}, **changes)


def ranged(asked: Asked, body: bytes, headers: dict[str, str] | None = None) -> Sent:
    """Return `body`, or the part of it that the request asks for."""
    headers = dict(headers or {})
    found = RANGE.fullmatch(asked.headers.get("range", ""))
    if found is None:
        return Sent(200, body, headers)
    first, last = int(found[1]), min(int(found[2] or len(body)), len(body) - 1)
    if first > last:
        return Sent(416, b"", headers | {"Content-Range": f"bytes */{len(body)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
    return Sent(206, body[first : last + 1], headers)


@dataclass
class ScriptedServer:
    """The server: its address, and all received requests."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    def sent_headers(self, name: str) -> set[str]:
        return {asked.headers[name] for asked in self.asked if name in asked.headers}


@contextmanager
def scripted_server(answer: Callable[[Asked], Sent]) -> Iterator[ScriptedServer]:
    """Run a server on loopback that answers every request with `answer`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _any(self) -> None:
            if self.headers.get("Expect"):
                self.send_response_only(100)
                self.end_headers()
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            server.asked.append(asked)
            sent = answer(asked)
            self.send_response(sent.status)
            stated = {name.lower() for name in sent.headers}
            for name, value in sent.headers.items():
                self.send_header(name, value)
            if sent.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif "content-length" not in stated:
                self.send_header("Content-Length", str(len(sent.body)))
            self.end_headers()
            data = sent.body if sent.cut is None else sent.body[: sent.cut]
            if self.command != "HEAD":
                if sent.chunked:
                    data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
                self.wfile.write(data)
            if sent.cut is not None:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_HEAD = _any

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    class QuietServer(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address) -> None:
            """Ignore clients that hang up."""

    listener = QuietServer(("127.0.0.1", 0), Handler)
    server = ScriptedServer(f"http://127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(5)
