"""Requests end in time, are retried only when they may be, and every failure is a typed RequestError."""

from __future__ import annotations

import gc
import json
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import pytest

from reconciler.errors import SourceChangedError
from reconciler.net.auth import Auth, Scheme, Secret
from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    RejectedError,
    RequestError,
    RetryLaterError,
    TransientError,
    UnexpectedResponseError,
)
from reconciler.net.response import UploadBody, multipart_file
from reconciler.net.retry import NO_RETRY, RetryBudget, RetryPolicy
from tests.support.fault_proxy import (
    FAULTS,
    SLOW,
    Answer,
    Cut,
    Drip,
    Endless,
    Fault,
    FaultProxy,
    ResetRequest,
    Stall,
)
from tests.support.http_peer import Asked, HttpPeer, Said, http_peer

PATIENT = Timeouts(connect=30, silence=60, total=120)  # for what must not end in a time limit
HASTY = Timeouts(connect=30, silence=0.4, total=1.0)  # for a peer that only a time limit ends
OPEN: list[HttpClient] = []
TOKEN = Secret("canary-token-of-the-test")


def client(url: str, *, retry: RetryPolicy = NO_RETRY, **options: object) -> HttpClient:
    options.setdefault("timeouts", PATIENT)
    options.setdefault("sleep", lambda seconds: None)
    http = HttpClient(url, name="node", retry=retry, **options)  # type: ignore[arg-type]
    OPEN.append(http)
    return http


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def echo(asked: Asked) -> Said:
    return Said(200, json.dumps({"length": len(asked.body)}).encode())


@pytest.fixture
def peer() -> Iterator[HttpPeer]:
    with http_peer(echo) as running:
        yield running


@pytest.fixture
def proxy(peer: HttpPeer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", urlsplit(peer.url).port or 0) as running:
        yield running


@contextmanager
def raw_peer(said: bytes, *, hold: float = 0.0) -> Iterator[str]:
    """A server that sends these bytes on each connection, reads nothing, and closes it after `hold` seconds.

    The client may close the connection before it has read all of them.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line, suppress(ConnectionError):
                    line.sendall(said)
                    done.wait(hold)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        done.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def test_parameters_headers_and_the_secret_arrive_where_they_belong(peer: HttpPeer) -> None:
    http = client(peer.url + "/prefix", auth=Auth(Scheme.BEARER, TOKEN))
    http.request("POST", "/api", params=[("arg", "a/b"), ("arg", "c d")], json={"x": 1}, repeatable=True)
    asked = peer.asked[0]
    assert urlsplit(asked.target).path == "/prefix/api"
    assert parse_qs(urlsplit(asked.target).query) == {"arg": ["a/b", "c d"]}
    assert asked.headers["authorization"] == f"Bearer {TOKEN.reveal()}"
    assert asked.headers["accept-encoding"] == "identity"
    assert TOKEN.reveal() not in asked.target
    assert json.loads(asked.body) == {"x": 1}
    http.close()
    http.close()


def test_an_upload_has_its_length_and_can_be_sent_again(proxy: FaultProxy, peer: HttpPeer) -> None:
    made = []

    def pieces() -> Iterator[bytes]:
        made.append(1)
        yield from (bytes(1 << 20) for _ in range(5))

    upload = multipart_file("bundle.car", UploadBody(5 << 20, pieces))
    proxy.arm(ResetRequest(1000), times=1)
    http = client(proxy.url, retry=RetryPolicy(attempts=2))
    answer = http.request("POST", "/up", content=upload, repeatable=True)
    assert answer.json() == {"length": upload.size}
    assert len(made) == 2
    asked = peer.asked[-1]
    assert asked.headers["content-length"] == str(upload.size)
    boundary = asked.headers["content-type"].split("boundary=")[1]
    assert asked.body.startswith(f"--{boundary}\r\n".encode())
    assert asked.body.endswith(f"\r\n--{boundary}--\r\n".encode())


def test_the_bytes_of_an_upload_are_released_when_it_was_sent(peer: HttpPeer) -> None:
    """Without looking for garbage: a program that makes few objects does so too late for MiBs of bytes."""

    class Part:
        """Bytes, which cannot be referred to weakly themselves."""

        data = bytes(1000)

    def upload() -> UploadBody:
        part = Part()
        alive.append(weakref.ref(part))
        return multipart_file("block", UploadBody(1000, lambda: iter((part.data,))))

    alive: list[weakref.ref[Part]] = []
    gc.disable()
    try:
        for _ in range(3):
            client(peer.url).request("POST", "/up", content=upload(), repeatable=True)
        assert [part() for part in alive] == [None, None, None]
    finally:
        gc.enable()


def test_an_exception_of_an_upload_is_raised_unchanged(peer: HttpPeer) -> None:
    def pieces() -> Iterator[bytes]:
        yield bytes(1 << 20)
        raise SourceChangedError("model.bin changed")

    with pytest.raises(SourceChangedError, match=r"model\.bin"):
        client(peer.url).request("POST", "/up", content=UploadBody(5 << 20, pieces), repeatable=True)


def test_another_peers_error_inside_an_upload_is_not_retried_here(peer: HttpPeer) -> None:
    made = []

    def pieces() -> Iterator[bytes]:
        made.append(1)
        yield b"x"
        raise TransientError("donor", "went away")

    http = client(peer.url, retry=RetryPolicy(attempts=4))
    with pytest.raises(TransientError, match="donor: went away"):
        http.request("POST", "/up", content=UploadBody(5, pieces), repeatable=True)
    assert made == [1]


@pytest.mark.parametrize("hold", [0.0, 300.0], ids=["hangs up", "holds the line"])
def test_a_response_that_arrives_during_an_upload_is_read(hold: float) -> None:
    said = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\nConnection: close\r\n\r\nno access"
    upload = UploadBody(64 << 20, lambda: (bytes(1 << 20) for _ in range(64)))
    with raw_peer(said, hold=hold) as url, pytest.raises(AccessDeniedError, match="no access"):
        client(url, timeouts=Timeouts(silence=0.4)).request("POST", "/up", content=upload, repeatable=False)


def test_a_200_before_the_upload_is_complete_is_an_error() -> None:
    upload = UploadBody(64 << 20, lambda: (bytes(1 << 20) for _ in range(64)))
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with (
        raw_peer(said, hold=300) as url,
        pytest.raises(TransientError, match="before it had received the whole request"),
    ):
        client(url, timeouts=Timeouts(silence=0.4)).request("POST", "/up", content=upload, repeatable=True)


def test_a_peer_that_takes_no_more_bytes_is_an_unexpected_response() -> None:
    upload = UploadBody(64 << 20, lambda: (bytes(1 << 20) for _ in range(64)))
    with (
        raw_peer(b"", hold=300) as url,
        pytest.raises(UnexpectedResponseError, match="stopped reading the request"),
    ):
        client(url, timeouts=Timeouts(silence=0.4)).request("POST", "/up", content=upload, repeatable=True)


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_request_to_a_dripping_peer_ends_at_its_deadline(part: str, proxy: FaultProxy) -> None:
    """Each byte arrives long before the silence limit, so only the deadline on the whole can end this."""
    delay = 0.05 if part == "headers" else 0.006
    proxy.arm(Drip(delay))
    with pytest.raises(TransientError, match="exceeded the time limit of the whole request"):
        client(proxy.url, timeouts=Timeouts(silence=60, total=0.8)).request("GET", "/", repeatable=True)


def test_an_endless_body_is_cut_at_the_limit(proxy: FaultProxy) -> None:
    proxy.arm(Endless())
    with pytest.raises(UnexpectedResponseError, match="more than 1000000 bytes"):
        client(proxy.url).request("GET", "/", repeatable=True, limit=1_000_000)
    stream = client(proxy.url).stream("GET", "/", repeatable=True)
    with stream as answer, pytest.raises(UnexpectedResponseError, match="more than 1000000 bytes"):
        list(answer.pieces(1_000_000))


def test_an_endless_error_is_cut_and_quoted(proxy: FaultProxy) -> None:
    body = b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n" + b"bad \x1b[2J thing " * 9000
    with raw_peer(body) as url, pytest.raises(RejectedError, match=r"bad \[2J thing") as caught:
        client(url).request("GET", "/", repeatable=True)
    assert len(caught.value.message) < 500


def test_a_compressed_answer_is_refused_unread() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    with raw_peer(said) as url, pytest.raises(UnexpectedResponseError, match="encoding"):
        client(url).request("GET", "/", repeatable=True)


@pytest.mark.parametrize(
    ("said", "kind", "wording"),
    [
        (Said(401), AccessDeniedError, "denies access"),
        (Said(403, b"Kubo RPC Access Denied"), AccessDeniedError, "Kubo RPC Access Denied"),
        (Said(404), NotFoundError, "answered that it does not exist"),
        (Said(409, b'{"error":{"reason":"FUNDS","details":"pay first"}}'), ConflictError, "pay first"),
        (Said(400, b'{"Message":"bad cid","Code":1}'), RejectedError, "bad cid"),
        (Said(500, b'{"Message":"broken","Code":0}'), TransientError, "broken"),
        (Said(502, b"<html>", {"Content-Type": "text/html"}), TransientError, "HTTP 502"),
        (Said(503), TransientError, "HTTP 503"),
        (Said(503, b"", {"Retry-After": "7"}), RetryLaterError, "pause"),
        (Said(429), RetryLaterError, "pause"),
        (Said(307, b"", {"Location": "http://192.0.2.1/x"}), UnexpectedResponseError, "redirects to"),
    ],
)
def test_each_status_has_its_error(said: Said, kind: type[RequestError], wording: str) -> None:
    with http_peer(lambda asked: said) as peer, pytest.raises(kind, match=wording) as caught:
        client(peer.url, auth=Auth(Scheme.BEARER, TOKEN)).request("GET", "/", repeatable=True)
    assert type(caught.value) is kind
    assert caught.value.peer == "node"
    assert caught.value.status == said.status
    assert len(peer.asked) == 1


def test_a_secret_that_a_peer_echoes_is_not_shown() -> None:
    def parrot(asked: Asked) -> Said:
        return Said(403, f"not with {asked.headers['authorization']}".encode())

    with http_peer(parrot) as peer, pytest.raises(AccessDeniedError) as caught:
        client(peer.url, auth=Auth(Scheme.BEARER, TOKEN)).request("GET", "/", repeatable=True)
    assert "canary" not in f"{caught.value} {caught.value!r} {caught.value.hint} {caught.value.__dict__}"


def test_a_web_page_is_not_json(peer: HttpPeer, proxy: FaultProxy) -> None:
    proxy.arm(FAULTS["html-200"])
    with pytest.raises(UnexpectedResponseError, match="web page"):
        client(proxy.url).request("GET", "/", repeatable=True).json()


@pytest.mark.parametrize("body", [b"{", b"", b"[" * 100_000, b"\xff"])
def test_malformed_json_and_json_bombs_are_transient(body: bytes) -> None:
    with (
        http_peer(lambda asked: Said(200, body)) as peer,
        pytest.raises(TransientError, match="answered with invalid or truncated JSON"),
    ):
        client(peer.url).request("GET", "/", repeatable=True).json()


def test_json_lines_are_read_one_by_one_and_may_be_empty() -> None:
    with http_peer(lambda asked: Said(200, b'{"a":1}\n\n{"a":2}\n')) as peer:
        answer = client(peer.url).request("GET", "/", repeatable=True)
    assert list(answer.json_lines()) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_is_a_request_error_and_a_repeatable_call_recovers(
    proxy: FaultProxy, fault: Fault
) -> None:
    """Broken once: a repeatable call then succeeds, or fails at once where retrying cannot help."""
    proxy.arm(fault, times=1)
    timeouts = HASTY if fault in map(FAULTS.get, SLOW) else PATIENT
    http = client(proxy.url, retry=RetryPolicy(attempts=3), timeouts=timeouts)
    try:
        answer = http.request("POST", "/", content=b"12345", repeatable=True, limit=1 << 20)
        answer.json()
    except RequestError as error:
        assert (
            isinstance(error, UnexpectedResponseError) or "invalid or truncated JSON" in error.message
        )  # a wrong length cut it
        assert len(proxy.paths) == 1
    else:
        assert answer.json() == {"length": 5}
    assert proxy.hits == 1


@pytest.mark.parametrize("fault", [Cut(0.5), Stall(), FAULTS["500"], FAULTS["503"], ResetRequest(0)])
def test_a_call_that_may_not_be_repeated_is_sent_once(proxy: FaultProxy, fault: Fault) -> None:
    proxy.arm(fault)
    http = client(
        proxy.url, retry=RetryPolicy(attempts=5), timeouts=HASTY if isinstance(fault, Stall) else PATIENT
    )
    with pytest.raises(TransientError):
        http.request("POST", "/", content=b"x", repeatable=False)
    assert len(proxy.paths) == 1


def test_a_call_that_may_not_be_repeated_is_sent_again_when_nothing_reached_the_peer(
    proxy: FaultProxy,
) -> None:
    proxy.down()
    http = client(proxy.url, retry=RetryPolicy(attempts=3), sleep=lambda seconds: proxy.up())
    assert http.request("POST", "/", content=b"x", repeatable=False).json() == {"length": 1}
    assert len(proxy.paths) == 1


def test_retry_after_is_waited_for_and_reported() -> None:
    said = iter([Said(429, b"", {"Retry-After": "17"}), Said(200)])
    slept: list[float] = []
    notes: list[str] = []
    with http_peer(lambda asked: next(said)) as peer:
        http = client(peer.url, retry=RetryPolicy(), sleep=slept.append, on_retry=notes.append)
        http.request("POST", "/", repeatable=False)
    assert slept == [17.0]
    assert len(notes) == 1
    assert "retrying in 17.0 s" in notes[0]


def test_a_pause_beyond_five_minutes_is_left_for_the_next_run(peer: HttpPeer, proxy: FaultProxy) -> None:
    proxy.arm(Answer(429, (("Retry-After", "301"),)))
    with pytest.raises(RetryLaterError) as caught:
        client(proxy.url, retry=RetryPolicy()).request("GET", "/", repeatable=True)
    assert caught.value.retry_after == 301
    assert len(proxy.paths) == 1


def test_all_clients_of_a_run_share_its_budget(proxy: FaultProxy) -> None:
    proxy.arm(FAULTS["503"])
    budget = RetryBudget(retries=5)
    for _ in range(4):
        http = client(proxy.url, retry=RetryPolicy(attempts=4), budget=budget)
        with pytest.raises(TransientError):
            http.request("GET", "/", repeatable=True)
    assert len(proxy.paths) == 4 + 5


def test_a_refused_connection_names_the_address(proxy: FaultProxy) -> None:
    proxy.down()
    with pytest.raises(TransientError, match="refused") as caught:
        client(proxy.url).request("GET", "/", repeatable=True)
    assert proxy.url in (caught.value.hint or "")


def test_a_stream_that_breaks_off_raises(proxy: FaultProxy) -> None:
    proxy.arm(Cut(1.0))
    stream = client(proxy.url).stream("POST", "/", repeatable=True)
    with stream as answer, pytest.raises(TransientError, match="broke"):
        list(answer.pieces(1 << 20))


@pytest.mark.parametrize("with_head", [0, 1, 5 << 20, 6 << 20])
def test_a_long_body_is_whole_however_much_of_it_comes_with_its_head(with_head: int) -> None:
    """What httpcore has not buffered is read from the connection directly."""
    body = os.urandom(6 << 20)
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                line, _ = server.accept()
                with line:
                    line.recv(65536)
                    line.sendall(head + body[:with_head])
                    time.sleep(0.05)
                    line.sendall(body[with_head:])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        http = client(f"http://127.0.0.1:{server.getsockname()[1]}")
        for _ in range(2):  # the server closes its connection after each response
            with http.stream("GET", "/", repeatable=True) as answer:
                assert b"".join(answer.pieces(len(body))) == body
        thread.join(60)


def test_a_response_to_head_has_no_body() -> None:
    with raw_peer(f"HTTP/1.1 200 OK\r\nContent-Length: {6 << 20}\r\n\r\n".encode(), hold=300) as url:
        assert client(url).request("HEAD", "/", repeatable=True).body == b""


def test_a_long_body_ends_as_a_short_one_does() -> None:
    """Cut off, too long, silent, or too slow altogether."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {6 << 20}\r\n\r\n".encode()
    with (
        raw_peer(head + bytes(5 << 20)) as url,
        client(url).stream("GET", "/", repeatable=True) as answer,
        pytest.raises(TransientError, match="broke"),
    ):
        list(answer.pieces(6 << 20))
    with (
        raw_peer(head + bytes(6 << 20), hold=300) as url,  # hanging up with an unread request would reset
        client(url).stream("GET", "/", repeatable=True) as answer,
        pytest.raises(UnexpectedResponseError, match="more than 5242880 bytes"),
    ):
        list(answer.pieces(5 << 20))
    with (
        raw_peer(head + bytes(5 << 20), hold=300) as url,
        pytest.raises(TransientError, match="silent for too long"),
        client(url, timeouts=Timeouts(silence=0.2)).stream("GET", "/", repeatable=True) as answer,
    ):
        list(answer.pieces(6 << 20))
    with (
        raw_peer(head + bytes(5 << 20), hold=300) as url,
        pytest.raises(TransientError, match="exceeded the time limit of the whole request"),
        client(url, timeouts=PATIENT).stream("GET", "/", repeatable=True, total=0.5) as answer,
    ):
        list(answer.pieces(6 << 20))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advance the clock of deadlines by some seconds."""
    real, ahead = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + sum(ahead))
    return ahead.append


def test_a_request_made_while_a_stream_is_read_does_not_extend_its_deadline(
    peer: HttpPeer, proxy: FaultProxy, later: Callable[[float], None]
) -> None:
    proxy.arm(Stall(0.95))
    with client(proxy.url).stream("POST", "/", repeatable=True, total=100.3) as answer:
        assert client(peer.url).request("POST", "/", repeatable=True).status == 200
        later(100)
        with pytest.raises(TransientError, match="exceeded the time limit of the whole request"):
            list(answer.pieces(100))


def test_a_peer_on_this_machine_is_not_reached_through_a_proxy(
    peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    monkeypatch.setenv("ALL_PROXY", "http://192.0.2.1:3128")
    assert client(peer.url).request("GET", "/", repeatable=True).status == 200


def test_an_open_body_limits_only_its_own_reads_in_time(later: Callable[[float], None]) -> None:
    """A generator may hold a body while its thread sends other requests."""
    with http_peer(lambda asked: Said(body=bytes(3 << 20))) as peer:
        found = client(peer.url).open("GET", "/x", repeatable=True, body_seconds=lambda headers: 500)
        pieces = found.pieces(4 << 20)
        next(pieces)
        later(PATIENT.total + 400)
        next(pieces)
        later(101)
        assert client(peer.url).request("GET", "/y", repeatable=True).status == 200
        with pytest.raises(TransientError, match="time limit"):
            list(pieces)
        found.close()
        found.close()
