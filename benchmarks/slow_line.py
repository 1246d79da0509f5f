"""A line whose connections are slow: a proxy in front of nginx limits the rate of each, and delays requests.

The delay of a round trip is added to the way of the requests alone, and once more for the handshake of a new
connection; so the long way back costs no copy: the proxy moves it from socket to socket in the kernel. The
rate is that of the connection, for all its responses together; `limit_rate` of nginx would let the first
second of each response pass at once.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.content.cid import RAW, Cid
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.walk import NodeKind, walk
from tests.support.nginx import nginx

_LATE = 0.1  # seconds that a busy machine may wake the proxy too late without slowing the line down
_PIPE = 1 << 17  # bytes that pass at once
_USER = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""  # who may read the temporary directory
_SERVER = """\
    location /ipfs/ {{
        if ($arg_format = raw) {{ rewrite ^/ipfs/(.*)$ /raw/$1 last; }}
        if ($arg_format = car) {{ return 406; }}
        rewrite ^/ipfs/(.*)$ /files/$1 last;
    }}
    location /raw/ {{ internal; root {home}; }}
    location /files/ {{ internal; root {home}; }}
    sendfile on;
    keepalive_requests 100000;
"""


@dataclass
class SlowLine:
    """A gateway behind a slow line; `received` counts the bytes that were sent to clients."""

    url: str
    received: int = 0
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def slow_line(
    home: Path, dag: DirectoryDag, source: Path, *, rate: float, delay: float
) -> Iterator[SlowLine]:
    """Serve `dag`, whose files are in `source`: `rate` bytes per second and connection, `delay` seconds away.

    The gateway answers with blocks, and with bytes of files; not with CARs.
    """
    lay_out(home, dag, source)
    with ExitStack() as stack:
        url = stack.enter_context(nginx(home / "nginx", _SERVER.format(home=home), main=_USER))
        yield stack.enter_context(slowed(int(url.rpartition(":")[2]), rate, delay))


def lay_out(home: Path, dag: DirectoryDag, source: Path) -> None:
    """Write the blocks of the tree to `raw`, and link the files of `source` by their CIDs in `files`.

    A file of one block is in both.
    """
    raw, files = home / "raw", home / "files"
    raw.mkdir(parents=True)
    files.mkdir()

    def read(cid: Cid) -> bytes:
        position = dag.layout.find(cid)
        assert position is not None
        block = dag.read(position)
        (raw / str(cid)).write_bytes(block)
        return block

    for node in walk(dag.layout.root, read).nodes:
        if node.kind is NodeKind.FILE:
            for place in (files, raw) if node.cid.codec == RAW else (files,):
                os.link(source / node.path, place / str(node.cid))


@contextmanager
def slowed(port: int, rate: float, delay: float) -> Iterator[SlowLine]:
    """Run the proxy in front of `port`."""
    line = SlowLine("")

    def carry(client: socket.socket) -> None:
        line.connections += 1
        _carry(client, port, rate, delay, line)

    with accepting(carry) as line.url:
        yield line


@contextmanager
def accepting(carry: Callable[[socket.socket], None], receive_buffer: int | None = None) -> Iterator[str]:
    """Accept connections, and call `carry` with each on a thread of its own; yield the URL.

    `receive_buffer` is that of the kernel for each connection, in bytes.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        if receive_buffer is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        stopped = threading.Event()

        def accept() -> None:
            server.settimeout(0.1)
            while not stopped.is_set():
                with suppress(TimeoutError):
                    client, _ = server.accept()
                    threading.Thread(target=carry, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stopped.set()
            thread.join()


def _carry(client: socket.socket, port: int, rate: float, delay: float, line: SlowLine) -> None:
    """Carry one connection: requests after the delay, responses at once."""
    with (
        client,
        socket.create_connection(("127.0.0.1", port)) as server,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_carry_back, args=(server, client, rate, line), daemon=True)
        back.start()
        wait = 2 * delay  # the handshake
        with suppress(OSError):
            while request := client.recv(1 << 16):
                time.sleep(wait)  # a client without pipelining sends the next one after the response
                wait = delay
                server.sendall(request)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        back.join()


def _carry_back(server: socket.socket, client: socket.socket, rate: float, line: SlowLine) -> None:
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE)
    free_at = 0.0  # the moment from which the line can take more
    try:
        with suppress(OSError):
            while count := os.splice(server.fileno(), into, _PIPE):
                free_at = max(free_at, time.monotonic() - _LATE) + count / rate
                with line.lock:
                    line.received += count
                while count:
                    count -= os.splice(out, client.fileno(), count)
                if (pause := free_at - time.monotonic()) > 0:
                    time.sleep(pause)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(out)
        os.close(into)


def aria2c(directory: Path, urls: list[str], *options: str) -> None:
    """Fetch `urls` with aria2c, which verifies nothing."""
    listed = directory / "urls"
    listed.write_text("\n".join(urls) + "\n")
    command = ["aria2c", "--quiet", "--no-conf", "--file-allocation=none", "--allow-overwrite=true"]
    subprocess.run(
        [*command, *options, f"--dir={directory / 'aria2c'}", f"--input-file={listed}"],
        check=True,
        capture_output=True,
    )
