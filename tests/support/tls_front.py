"""TLS in front of a plain HTTP peer, which is cut or gets another certificate in the middle of a request."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Cut:
    """Ends the connection `after` so many bytes of a request that contains `marker`, or of its answer.

    The first `skip` such requests get through. `reset` ends it with RST, otherwise without the farewell of
    TLS. With `renewed`, later connections meet this context.
    """

    marker: bytes
    after: int = 0
    answer: bool = False
    skip: int = 0
    reset: bool = False
    renewed: ssl.SSLContext | None = None


@dataclass
class TlsFront:
    """The front of the peer at `upstream`; `cuts` happen in their order, each once."""

    upstream: str
    context: ssl.SSLContext
    url: str = ""
    cuts: list[Cut] = field(default_factory=list)

    def serve(self, line: socket.socket) -> None:
        """Carry one connection."""
        peer = urlsplit(self.upstream)
        with (
            suppress(OSError),
            line,
            socket.create_connection((peer.hostname, peer.port)) as far,
            self.context.wrap_socket(line, server_side=True) as near,
        ):
            self._carry(near, far)

    def _carry(self, near: ssl.SSLSocket, far: socket.socket) -> None:
        left: int | None = None
        while True:
            ready = [near] if near.pending() else select.select([near, far], [], [], 30)[0]
            if not ready:
                return
            for side in ready:
                data = side.recv(65536)
                if not data:
                    return
                upwards = side is near
                if upwards and left is None and self.cuts and self.cuts[0].marker in data:
                    if self.cuts[0].skip:
                        self.cuts[0].skip -= 1
                    else:
                        left = self.cuts[0].after
                if left is not None and self.cuts[0].answer is not upwards:
                    if len(data) >= left:
                        (far if upwards else near).sendall(data[:left])
                        self._cut(near, self.cuts.pop(0))
                        return
                    left -= len(data)
                (far if upwards else near).sendall(data)

    def _cut(self, near: ssl.SSLSocket, cut: Cut) -> None:
        self.context = cut.renewed or self.context
        if cut.reset:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def tls_front(upstream: str, context: ssl.SSLContext) -> Iterator[TlsFront]:
    """Run a front of the plain HTTP peer at `upstream`; it is reached at `url`."""
    front = TlsFront(upstream, context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        front.url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            with suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    threading.Thread(target=front.serve, args=(line,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield front
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
