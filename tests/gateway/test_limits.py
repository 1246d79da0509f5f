"""What clients may cost: too many at once are told when to come back, slow ones are dropped."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.stores import Admission, ServeLimits
from tests.support.dags import Blocks, MemoryDag
from tests.support.gateway import Served, keep, wait_until

MIB = 1 << 20
LIMITED = """
import sys
from pathlib import Path
from reconciler.gateway.stores import ServeLimits
from reconciler.gateway.server import serve
limits = eval(sys.argv[2])
serve([Path(sys.argv[1])], ("127.0.0.1", 0), [], limits=limits,
      ready=lambda url: print(url, flush=True), log=lambda text: print(text, file=sys.stderr, flush=True))
"""


@contextmanager
def limited(home: Path, limits: str) -> Iterator[Served]:
    """A gateway over `home/store` with other limits."""
    log = home / "serve.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", LIMITED, home / "store", limits], stdout=subprocess.PIPE, stderr=errors
        )
    try:
        assert process.stdout is not None
        with process.stdout, selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            assert selector.select(30)
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
    """A client that asks and then reads nothing."""
    client = socket.create_connection(("127.0.0.1", gateway.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def test_more_requests_than_are_allowed_are_told_to_come_back(tmp_path: Path, path: str) -> None:
    for limits, status in (("ServeLimits(requests=2)", 503), ("ServeLimits(requests_a_client=2)", 429)):
        with limited(tmp_path, limits) as gateway, lazy(gateway, path), lazy(gateway, path):
            wait_until(
                "both are answered",
                lambda gateway=gateway: b"requests_active 2\n" in gateway.get("/metrics").body,
            )
            got = gateway.get(path)
            assert (got.status, got.headers["retry-after"]) == (status, "2")


def test_a_client_that_takes_nothing_is_dropped_and_keeps_nobody_waiting(tmp_path: Path, path: str) -> None:
    with limited(tmp_path, "ServeLimits(bodies=1, stall_seconds=2)") as gateway:
        with lazy(gateway, path):
            time.sleep(0.2)
            got = gateway.get(path)  # though the one place for a body was taken
            assert (got.whole, len(got.body)) == (True, 24 * MIB)
            wait_until(
                "the lazy client is dropped",
                lambda: b"requests_active 0\n" in gateway.get("/metrics").body,
            )
        assert "the client took nothing for 2 seconds" in gateway.log.read_text()


def test_a_client_that_does_not_come_to_the_end_of_its_request_is_dropped(tmp_path: Path, path: str) -> None:
    """Byte by byte, so that it never seems idle; also as a second request on a good connection."""
    good = f"GET {path}?format=raw HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with limited(tmp_path, "ServeLimits(head_seconds=1)") as gateway:
        for first in (b"", good):
            client = socket.create_connection(("127.0.0.1", gateway.port), timeout=0.2)
            with client:
                client.sendall(first)
                started, dropped, received = time.monotonic(), False, 0
                while not dropped and time.monotonic() - started < 15:
                    try:
                        client.sendall(b"G" if received or not first else b"")
                        piece = client.recv(65536)
                        dropped, received = not piece, received + len(piece)
                    except TimeoutError:
                        pass
                    except ConnectionError:
                        dropped = True
                assert dropped
                assert bool(received) == bool(first)


def test_an_answer_that_takes_longer_than_a_request_may_is_not_cut_off(tmp_path: Path, path: str) -> None:
    with (
        limited(tmp_path, "ServeLimits(head_seconds=0.5)") as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client,
    ):
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(1.5)
        received = 0
        while received < 24 * MIB:
            piece = client.recv(1 << 20)
            assert piece
            received += len(piece)


def test_places_are_given_back() -> None:
    admission = Admission(ServeLimits(requests=2, requests_a_client=1))
    with admission.admitted("a"):
        with pytest.raises(RequestRefusedError, match="from this address") as caught, admission.admitted("a"):
            pass
        assert caught.value.status == 429
        with (
            admission.admitted("b"),
            pytest.raises(RequestRefusedError, match="too many requests at once") as caught,
            admission.admitted("c"),
        ):
            pass
        assert caught.value.status == 503
    with admission.admitted("a"):
        assert admission.active == 1
    assert admission.active == 0
