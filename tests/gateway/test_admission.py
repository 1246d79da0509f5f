"""Limits on clients: too many requests get a Retry-After, slow clients are dropped."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.gateway.admission import Admission, ServeLimits
from reconciler.gateway.request import RequestRefusedError
from tests.support.dags import Blocks, MemoryDag
from tests.support.gateway import Served, keep
from tests.support.waiting import wait_until

MIB = 1 << 20
LIMITED = """
import sys
from pathlib import Path
from reconciler.gateway.admission import ServeLimits
from reconciler.gateway.server import serve
limits = eval(sys.argv[2])
serve([Path(sys.argv[1])], ("127.0.0.1", 0), [], limits=limits,
      ready=lambda url: print(url, flush=True), log=lambda text: print(text, file=sys.stderr, flush=True))
"""


@contextmanager
def limited(home: Path, limits: str) -> Iterator[Served]:
    """Run a gateway over `home/store` with the given limits."""
    log = home / "serve.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", LIMITED, home / "store", limits], stdout=subprocess.PIPE, stderr=errors
        )
    try:
        assert process.stdout is not None
        with process.stdout, selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            assert selector.select(60)
            yield Served(process.stdout.readline().decode().strip(), process, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def path(tmp_path: Path) -> str:
    blocks = Blocks()
    root = blocks.pack(os.urandom(24 * MIB)).cid
    keep(tmp_path / "store", MemoryDag(root, blocks.blocks))
    return f"/ipfs/{root}"


def lazy(gateway: Served, path: str) -> socket.socket:
    """Return a client that sent a request and reads nothing."""
    client = socket.create_connection(("127.0.0.1", gateway.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def test_requests_above_the_limit_get_a_retry_after(tmp_path: Path, path: str) -> None:
    for limits, status in (("ServeLimits(requests=2)", 503), ("ServeLimits(requests_a_client=2)", 429)):
        with limited(tmp_path, limits) as gateway, lazy(gateway, path), lazy(gateway, path):
            wait_until(
                "both requests are active",
                lambda gateway=gateway: b"requests_active 2\n" in gateway.get("/metrics").body,
            )
            got = gateway.get(path)
            assert (got.status, got.headers["retry-after"]) == (status, "2")


def test_a_client_that_reads_nothing_is_dropped_and_blocks_no_other(tmp_path: Path, path: str) -> None:
    with limited(tmp_path, "ServeLimits(bodies=1, stall_seconds=5)") as gateway:
        with lazy(gateway, path):
            time.sleep(0.2)
            got = gateway.get(path)  # although the only body slot was in use
            assert (got.whole, len(got.body)) == (True, 24 * MIB)
            wait_until(
                "the lazy client is dropped",
                lambda: b"requests_active 0\n" in gateway.get("/metrics").body,
            )
        assert "the client accepted no data for 5 seconds" in gateway.log.read_text()


def bytes_before_it_is_dropped(gateway: Served, first: bytes) -> int:
    """Send `first`, and once that is answered one byte after the other, until the gateway hangs up."""
    received, end = 0, time.monotonic() + 60
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=0.2) as client:
        client.sendall(first)
        while time.monotonic() < end:
            try:
                client.sendall(b"G" if received or not first else b"")
                piece = client.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                return received
            if not piece:
                return received
            received += len(piece)
    raise AssertionError("it was not dropped")


def test_a_client_that_does_not_finish_its_request_is_dropped(tmp_path: Path, path: str) -> None:
    """It sends byte by byte, so it is never idle; also as the second request of a connection."""
    good = f"GET {path}?format=raw HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with limited(tmp_path, "ServeLimits(head_seconds=1)") as gateway:
        assert bytes_before_it_is_dropped(gateway, b"") == 0
        # a machine that stands still for a second makes the first request late as well
        wait_until("the first request in time", lambda: bytes_before_it_is_dropped(gateway, good))


def test_a_response_that_takes_longer_than_head_seconds_is_not_cut_off(tmp_path: Path, path: str) -> None:
    def begun(gateway: Served) -> tuple[socket.socket, bytes]:
        """Return a client whose request was in time."""
        while True:
            client = socket.create_connection(("127.0.0.1", gateway.port), timeout=60)
            with suppress(ConnectionError):
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                if piece := client.recv(1 << 20):
                    return client, piece
            client.close()

    with limited(tmp_path, "ServeLimits(head_seconds=0.5)") as gateway:
        client, piece = begun(gateway)
        with client:
            time.sleep(1.5)
            received = len(piece)
            while received < 24 * MIB:
                piece = client.recv(1 << 20)
                assert piece
                received += len(piece)


def test_admission_ends_with_the_request() -> None:
    admission = Admission(ServeLimits(requests=2, requests_a_client=1))
    with admission.admitted("a"):
        with pytest.raises(RequestRefusedError, match="from this address") as caught, admission.admitted("a"):
            pass
        assert caught.value.status == 429
        with (
            admission.admitted("b"),
            pytest.raises(RequestRefusedError, match="too many concurrent requests") as caught,
            admission.admitted("c"),
        ):
            pass
        assert caught.value.status == 503
    with admission.admitted("a"):
        assert admission.active == 1
    assert admission.active == 0
