"""Small proxies in threads: SOCKS5, and HTTP with CONNECT, each with or without TLS and a password.

Every connection leads to one peer on loopback, whatever host the client names, so that tests can use names
that do not exist.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Open = Callable[[socket.socket, "ProxyPeer"], bool]


@dataclass
class ProxyPeer:
    """A proxy: its port, the port that it connects to, and the hosts that clients named."""

    port: int
    target: int
    credentials: str = ""
    refusal: int = 0  #: the status of CONNECT, or the code of SOCKS, that refuses every connection
    named: list[str] = field(default_factory=list)


def _exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise OSError("the client closed the connection")
        data += piece
    return data


def socks5(client: socket.socket, peer: ProxyPeer) -> bool:
    """Answer the handshake of RFC 1928, and of RFC 1929 with credentials; return whether to connect."""
    _, count = _exactly(client, 2)
    methods = _exactly(client, count)
    wanted = 2 if peer.credentials else 0
    client.sendall(bytes((5, wanted if wanted in methods else 255)))
    if wanted not in methods:
        return False
    if wanted:
        _, length = _exactly(client, 2)
        user = _exactly(client, length).decode()
        password = _exactly(client, _exactly(client, 1)[0]).decode()
        good = f"{user}:{password}" == peer.credentials
        client.sendall(bytes((1, not good)))
        if not good:
            return False
    *_, kind = _exactly(client, 4)
    size = {1: 4, 4: 16}.get(kind) or _exactly(client, 1)[0]
    peer.named.append(_exactly(client, size).decode("latin-1"))
    _exactly(client, 2)
    client.sendall(bytes((5, peer.refusal, 0, 1)) + bytes(6))
    return not peer.refusal


def connect(client: socket.socket, peer: ProxyPeer) -> bool:
    """Answer a CONNECT request; return whether to connect."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _exactly(client, 1)
        if head == b"\x16":  # TLS
            return False
    lines = head.decode("latin-1").split("\r\n")
    peer.named.append(lines[0].split()[1])
    expected = base64.b64encode(peer.credentials.encode()).decode()
    status = peer.refusal or (200 if not peer.credentials or f"Basic {expected}" in head.decode() else 407)
    client.sendall(f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n".encode())
    return status == 200


def _relay(client: socket.socket, target: int) -> None:
    with socket.create_connection(("127.0.0.1", target)) as peer:
        while True:
            pending = isinstance(client, ssl.SSLSocket) and client.pending()
            ready = [client] if pending else select.select([client, peer], [], [], 5)[0]
            if not ready:
                return
            for source in ready:
                data = source.recv(1 << 16)
                if not data:
                    return
                (peer if source is client else client).sendall(data)


@contextmanager
def proxy_server(
    handshake: Open,
    target: int,
    *,
    context: ssl.SSLContext | None = None,
    credentials: str = "",
    refusal: int = 0,
) -> Iterator[ProxyPeer]:
    """Run a proxy on loopback whose connections lead to the port `target`."""
    listening = socket.create_server(("127.0.0.1", 0))
    found = ProxyPeer(listening.getsockname()[1], target, credentials, refusal)

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if context is not None:
                client = context.wrap_socket(client, server_side=True)
            with client:
                if handshake(client, found):
                    _relay(client, target)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)
