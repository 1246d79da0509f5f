"""A web server in a thread with the files of a directory: ranges, sizes, and the count of what it sent."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE = 256 << 10


class FileServer:
    """The server: its `url`, the body bytes that it `sent`, and the number of them after which it stops.

    Without `ranges` every response has the whole file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ranges = True
        self.url = ""
        self.sent = 0
        self.stops_after: int | None = None
        self._lock = threading.Lock()

    def _take(self, wanted: int) -> int:
        """Return how many of `wanted` bytes may be sent now."""
        with self._lock:
            left = wanted if self.stops_after is None else self.stops_after - self.sent
            count = max(0, min(wanted, left))
            self.sent += count
            return count


@contextmanager
def file_server(root: Path) -> Iterator[FileServer]:
    """Run a server on loopback; a request beyond `stops_after` gets no more bytes, and no end either."""
    server = FileServer(root)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = root / unquote(self.path).lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            size = path.stat().st_size
            ranged = _RANGE.fullmatch(self.headers.get("Range", "")) if server.ranges else None
            start = int(ranged[1]) if ranged else 0
            end = int(ranged[2]) + 1 if ranged and ranged[2] else size
            self.send_response(206 if ranged else 200)
            if ranged:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            with path.open("rb") as file, suppress(ConnectionError):
                while start < end:
                    count = server._take(min(_PIECE, end - start))
                    if not count:
                        ended.wait()
                        self.close_connection = True
                        return
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, count)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    peer = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer.daemon_threads = True
    server.url = f"http://127.0.0.1:{peer.server_port}"
    thread = threading.Thread(target=peer.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        ended.set()
        peer.shutdown()
        peer.server_close()
        thread.join(5)
