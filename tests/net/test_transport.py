"""Connections are kept, go through proxies, verify certificates, and end when another thread closes them."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.net import connections
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.errors import TransientError
from reconciler.net.retry import NO_RETRY
from tests.support.certificates import self_signed, server_context
from tests.support.http_peer import Said, http_peer
from tests.support.waiting import wait_until

MIB = 1 << 20
LONG = 6 * MIB


def client(url: str, **options: object) -> HttpClient:
    options.setdefault("timeouts", Timeouts(connect=30, silence=60, total=120))
    return HttpClient(url, name="node", retry=NO_RETRY, **options)  # type: ignore[arg-type]


@contextmanager
def server(
    *bodies: bytes, context: ssl.SSLContext | None = None, announced: int | None = None
) -> Iterator[tuple[str, list[int]]]:
    """A server that answers the requests with `bodies` in turn; its URL, and the requests per connection.

    `announced` replaces the length in the header; the rest of the body then never arrives.
    """
    left = list(bodies)
    counts: list[int] = []
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(line: socket.socket) -> None:
            number = len(counts)
            counts.append(0)
            with (
                suppress(OSError),
                line if context is None else context.wrap_socket(line, server_side=True) as peer,
            ):
                while left and peer.recv(65536):
                    counts[number] += 1
                    body = left.pop(0)
                    size = len(body) if announced is None else announced
                    peer.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + body)
                if announced is not None:
                    done.wait(300)

        def serve() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(line,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        scheme = "http" if context is None else "https"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", counts
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    return self_signed(tmp_path_factory.mktemp("tls") / "node.pem")


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    return server_context(certificate)


def test_a_connection_is_used_again_after_a_body_that_was_read_to_its_end() -> None:
    bodies = [b"one", os.urandom(LONG), b"three"]
    with server(*bodies) as (url, counts):
        http = client(url)
        assert [http.request("GET", "/", repeatable=True).body for _ in range(3)] == bodies
        http.close()
    assert counts == [3]


def test_a_long_body_is_whole_with_another_httpcore(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose internals cannot be found reads the body itself."""
    monkeypatch.setattr("reconciler.net.transport._UnreadBody.of", lambda _: None)
    body = os.urandom(LONG)
    with server(body, b"end") as (url, counts):
        http = client(url)
        assert [http.request("GET", "/", repeatable=True).body for _ in range(2)] == [body, b"end"]
        http.close()
    assert counts == [2]


def test_a_connection_is_closed_after_a_body_that_was_not_read_to_its_end() -> None:
    with server(bytes(LONG), bytes(LONG), b"end") as (url, counts):
        http = client(url)
        for _ in range(2):
            with http.stream("GET", "/", repeatable=True) as answer:
                next(answer.pieces(LONG))
        assert http.request("GET", "/", repeatable=True).body == b"end"
        http.close()
    assert counts == [1, 1, 1]


@pytest.mark.parametrize("size", [10, LONG], ids=["short", "long"])
def test_closing_a_client_ends_the_reading_of_another_thread(size: int) -> None:
    with server(bytes(size // 2), announced=size) as (url, _):
        http = client(url)
        with http.stream("GET", "/", repeatable=True) as answer, pytest.raises(TransientError, match="broke"):
            threading.Timer(0.3, http.close).start()
            list(answer.pieces(LONG))


def test_interrupting_a_client_ends_its_requests_and_not_later_ones() -> None:
    """Also one that waits for its response; the connection that it had kept is not used again."""
    with server(b"one", b"", b"three", announced=3) as (url, counts):
        http = client(url)
        assert http.request("GET", "/", repeatable=True).body == b"one"

        def interrupt() -> None:
            wait_until("the second request has arrived", lambda: counts == [2])
            http.interrupt()

        threading.Thread(target=interrupt).start()
        with pytest.raises(TransientError, match="broke"):
            http.request("GET", "/", repeatable=True)
        http.interrupt()
        assert http.request("GET", "/", repeatable=True).body.startswith(b"thr")
        http.close()
    assert len(counts) == 2


def test_long_and_short_bodies_arrive_whole_over_tls(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    bodies = [b"short", os.urandom(LONG), b"end"]
    with server(*bodies, context=tls) as (url, counts):
        http = client(url)
        assert [http.request("GET", "/", repeatable=True).body for _ in range(3)] == bodies
        http.close()
    assert counts == [3]


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "another httpcore"])
@pytest.mark.parametrize("encrypted", [True, False], ids=["tls", "plain"])
def test_bodies_arrive_whole_in_memory_of_the_caller_and_leave_the_connection_reusable(
    encrypted: bool, direct: bool, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    if not direct:
        monkeypatch.setattr("reconciler.net.transport._UnreadBody.of", lambda _: None)
    bodies = [b"short", os.urandom(LONG), b"end"]
    with server(*bodies, context=tls if encrypted else None) as (url, counts):
        http = client(url)
        for body in bodies:
            found, memory = bytearray(), memoryview(bytearray(MIB))
            opened = http.open("GET", "/", repeatable=True)
            while count := opened.receive_into(memory):
                found += memory[:count]
            opened.close()
            assert found == body
        http.close()
    assert counts == [3]


@pytest.mark.parametrize("end", ["silence", "closed"])
def test_a_body_that_stops_is_an_error_also_in_memory_of_the_caller(end: str) -> None:
    with server(bytes(5 * MIB), announced=LONG) as (url, _):
        http = client(url, timeouts=Timeouts(silence=0.3 if end == "silence" else 60))
        opened = http.open("GET", "/", repeatable=True)
        if end == "closed":
            threading.Timer(0.2, http.close).start()
        with pytest.raises(TransientError, match="silent for too long" if end == "silence" else "broke"):
            for _ in range(LONG):
                opened.receive_into(memoryview(bytearray(MIB)))
        http.close()


def test_a_long_body_over_tls_that_stops_is_silence(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with server(bytes(5 * MIB), context=tls, announced=LONG) as (url, _):
        http = client(url, timeouts=Timeouts(silence=0.3))
        with pytest.raises(TransientError, match="silent for too long"):
            http.request("GET", "/", repeatable=True)
        http.close()


def test_an_unknown_certificate_is_refused(tls: ssl.SSLContext) -> None:
    with (
        server(b"secret", context=tls) as (url, _),
        pytest.raises(TransientError, match="certificate") as caught,
    ):
        client(url).request("GET", "/", repeatable=True)
    assert not caught.value.reached


def test_a_request_goes_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_peer(lambda asked: Said(200, b"by proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:pass%40@"))
        monkeypatch.delenv("no_proxy", raising=False)
        http = client("http://node.example:5001")
        assert http.request("GET", "/api", repeatable=True).body == b"by proxy"
        http.close()
    assert proxy.asked[0].target == "http://node.example:5001/api"
    assert proxy.asked[0].headers["proxy-authorization"] == "Basic dXNlcjpwYXNzQA=="


def test_a_client_for_public_addresses_does_not_dial_this_machine() -> None:
    with (
        server(b"private") as (url, counts),
        pytest.raises(TransientError, match="not public") as caught,
    ):
        client(url, public_only=True).request("GET", "/", repeatable=True)
    assert not caught.value.reached
    assert counts == []


@pytest.fixture
def largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file with the largest buffer of the system, which does not exist yet."""
    monkeypatch.setattr(connections, "_LARGEST", tmp_path / "rmem_max")
    connections._largest_buffer.cache_clear()
    yield tmp_path / "rmem_max"
    connections._largest_buffer.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "most", "limited"),
    [
        (0.0001, "4194304\n", True),
        (0.0001, "524288\n", True),
        (0.0001, "212992\n", False),  # as Linux has it by default: less than we want would be slow
        (0.0001, None, True),  # another system
        (0.0001, "unlimited\n", True),
        (0.05, "4194304\n", False),
    ],
)
def test_the_system_receives_little_ahead_from_a_near_peer_only(
    seconds: float, most: str | None, limited: bool, largest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if most is not None:
        largest.write_text(most)
    clock = iter(range(100))
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: next(clock) * seconds))
    buffers: list[int] = []
    monkeypatch.setattr(socket.socket, "setsockopt", lambda _, level, option, value: buffers.append(value))
    with server(b"") as (url, _):
        stream = connections.ConnectionBackend().connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))
        stream.close()
    assert (connections._NEAR_BUFFER in buffers) == limited


def test_a_system_without_an_option_of_sockets_still_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    original = socket.socket.setsockopt

    def refuse(found: socket.socket, level: int, option: int, value: int) -> None:
        if (level, option) in (
            (socket.SOL_SOCKET, socket.SO_RCVBUF),
            (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT),
        ):
            raise OSError(92, "Protocol not available")
        original(found, level, option, value)

    with server(b"body") as (url, _):
        monkeypatch.setattr(connections, "_NEAR", 60.0)
        monkeypatch.setattr(socket.socket, "setsockopt", refuse)
        http = client(url)
        assert http.request("GET", "/", repeatable=True).body == b"body"
        http.close()


@pytest.mark.parametrize("end", ["close", "interrupt"])
def test_a_connection_that_another_thread_closes_never_sends_without_encryption(
    end: str, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS is in place until nothing can leave any more."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    original = socket.socket.shutdown
    encrypted: list[bool] = []

    def shut(found: socket.socket, how: int) -> None:
        if isinstance(found, ssl.SSLSocket) and not found.server_side:
            encrypted.append(found.version() is not None)
        original(found, how)

    with server(b"body", b"never asked for", context=tls) as (url, _):
        http = client(url)
        assert http.request("GET", "/", repeatable=True).body == b"body"
        monkeypatch.setattr(socket.socket, "shutdown", shut)
        getattr(http, end)()
        http.close()
        monkeypatch.undo()
    assert encrypted
    assert encrypted[0]
