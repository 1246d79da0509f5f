"""A storage provider for pieces of a GiB: bytes go through it in parts, and lie in sparse files.

It hashes with the package under test, because hashlib alone would take minutes; that these piece CIDs are
right is tested elsewhere. A provider without a directory discards what it received and only keeps the CIDs;
its pulls then name a piece that the other provider has, and move nothing.
"""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from reconciler.content.piece_hash import PieceHasher
from tests.support.http_peer import Asked, Said
from tests.support.onchain.lab import OnchainLab
from tests.support.onchain.pdp_provider import PdpProvider

_PART = 1 << 20
_PAGE = 1 << 12
_ZEROS = bytes(_PAGE)


@dataclass(frozen=True)
class StoredPiece:
    """Received bytes in a file; None: they were discarded."""

    piece: str
    size: int
    file: Path | None

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, wanted: slice) -> bytes:
        assert self.file is not None, "the bytes were discarded"
        with self.file.open("rb") as file:
            file.seek(wanted.start)
            return file.read(wanted.stop - wanted.start)

    def parts(self) -> Iterator[bytes]:
        """All bytes, in parts."""
        for start in range(0, self.size, _PART):
            yield self[start : min(self.size, start + _PART)]


@dataclass
class LargeProvider(PdpProvider):
    """A provider whose pieces are files in `directory`; without one, bytes are discarded."""

    directory: Path | None = None
    received: int = 0  #: bytes of uploads
    _pulling: dict[str, str] = field(default_factory=dict)

    def receive(self, source: BinaryIO, size: int) -> StoredPiece:
        """Read, hash and keep `size` bytes."""
        if self.directory is None:
            return self._copy(source, size, None)
        file = self.directory / f"{self.number}-{os.urandom(8).hex()}"
        with file.open("wb") as target:
            found = self._copy(source, size, target)
            target.truncate(size)
        return StoredPiece(found.piece, size, file)

    def _copy(self, source: BinaryIO, size: int, target: BinaryIO | None) -> StoredPiece:
        left = size
        with PieceHasher() as hasher:
            while left:
                part = source.read(min(_PART, left))
                if not part:
                    raise ConnectionError(f"{left} of {size} bytes are missing")
                left -= len(part)
                hasher.update(part)
                if target is not None:
                    _write_sparse(target, part)
            return StoredPiece(str(hasher.finish()), size, None)

    def hash(self, data: Any) -> str:
        """The CID that was computed while the bytes arrived."""
        return str(data.piece)

    def _fetch(self, piece: str, source: str) -> str:
        state = self._pulling.setdefault(piece, "new")
        if state == "new":
            self._pulling[piece] = "pending"
            threading.Thread(target=self._pull_one, args=(piece, source), daemon=True).start()
        return "pending" if state == "new" else state

    def _pull_one(self, piece: str, source: str) -> None:
        if self.directory is None:
            data = StoredPiece(piece, 0, None)
        else:
            with urllib.request.urlopen(source, timeout=60) as response:
                data = self.receive(response, int(response.headers["Content-Length"]))
        with self.lock:
            if data.piece == piece:
                self.pulled[piece] += 1
                self.keep(data)  # type: ignore[arg-type]
            self._pulling[piece] = "complete" if data.piece == piece else "failed"


def _write_sparse(target: BinaryIO, part: bytes) -> None:
    """Append `part`, with holes for whole pages of zeros."""
    start = 0
    while start < len(part):
        page = -(target.tell() % -_PAGE) or _PAGE
        stop = min(len(part), start + page)
        if part[start:stop] == _ZEROS:
            target.seek(stop - start, os.SEEK_CUR)
        else:
            target.write(part[start:stop])
        start = stop


@contextmanager
def large_provider(number: int, directory: Path | None = None) -> Iterator[LargeProvider]:
    """Run provider `number` at `url`; its `lab` is set once it is registered there."""
    provider = LargeProvider(OnchainLab("", ""), number, directory=directory)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        rbufsize = _PART

        def _any(self) -> None:
            size = int(self.headers.get("Content-Length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if self.command == "PUT":
                body: Any = provider.receive(self.rfile, size)
                provider.received += size
            else:
                body = self.rfile.read(size)
            self._say(provider.answer(Asked(self.command, self.path, headers, body)))

        def _say(self, said: Said) -> None:
            self.send_response(said.status)
            for name, value in ({"Content-Type": "application/json"} | said.headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            data: Any = said.body
            for part in data.parts() if isinstance(data, StoredPiece) else (data,):
                self.wfile.write(part)

        do_GET = do_POST = do_PUT = _any

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
