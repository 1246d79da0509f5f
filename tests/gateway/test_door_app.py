"""The application in front of the doors, called without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import pytest

from reconciler.content.cid import DAG_PB, RAW, hash_block
from reconciler.errors import DataError
from reconciler.gateway.admission import Metrics, ServeLimits
from reconciler.gateway.app import GatewayApp, application
from reconciler.gateway.background_digests import BackgroundDigests
from reconciler.gateway.door_app import DoorApp
from reconciler.gateway.doors.huggingface import HuggingFaceDoor
from reconciler.gateway.doors.interface import AccessRule, DoorAccess, DoorContent
from reconciler.gateway.doors.open import OpenedDoors
from reconciler.gateway.protocol import _EXTENSION
from reconciler.gateway.release_files import FileTables
from reconciler.gateway.releases import ReleaseView
from reconciler.gateway.responses import GatewayResponse
from reconciler.gateway.stores import Stores
from reconciler.gateway.stream import AsgiRequest, Sender
from reconciler.net.auth import Secret
from tests.support.memory_blocks import Blocks, parse_document

READ = Blocks()
ROOT = READ.release({"a.txt": b"content", "b.txt": b"more"})
INDEX = parse_document({name: {"1.0.0": ROOT} for name in ("acme/llm", "health", "metrics-llm")})


@pytest.fixture(scope="module")
def app() -> Iterator[DoorApp]:
    """The doors over three models, one of which needs a token."""
    gateway = GatewayApp(Stores([]), [], limits=ServeLimits(), log=lambda _: None)
    view = ReleaseView(lambda: INDEX, seconds=60, log=lambda _: None)
    access = DoorAccess([AccessRule(("acme/*",), Secret("token"))])
    content = DoorContent(view, FileTables(lambda: READ), lambda: READ, access)
    opened = OpenedDoors(view, [HuggingFaceDoor(content)], access, BackgroundDigests(None))
    made = DoorApp(gateway, opened, application(gateway))
    yield made
    made.close()
    opened.close()
    gateway.close()


def call(app: DoorApp, path: str, host: str = "h:1", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request for a path as it would stand in the request line."""
    sent: list[dict[str, Any]] = []
    bare, _, query = path.partition("?")
    named = {"host": host, **headers}
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": unquote(bare),
        "raw_path": bare.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
        "root_path": "",
        "http_version": "1.1",
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(each.get("body", b"") for each in sent[1:])


@pytest.mark.parametrize("name", ["health", "metrics-llm"])
def test_a_model_may_be_called_like_a_page_of_the_server(app: DoorApp, name: str) -> None:
    assert call(app, f"/{name}/resolve/main/a.txt")[::2] == (200, b"content")
    assert call(app, "/health")[2].startswith(b"ok")
    assert b"door_requests_total" in call(app, "/metrics")[2]


@pytest.mark.parametrize(
    "path",
    [
        f"/ipfs/{ROOT}",
        f"/%69pfs/{ROOT}",
        f"/ipfs%2F{ROOT}",
        f"/routing/v1/providers/{ROOT}",
        f"/%72outing/v1/providers/{ROOT}",
        f"/routing%2Fv1/providers/{ROOT}",
    ],
)
def test_no_spelling_of_a_path_avoids_the_token(app: DoorApp, path: str) -> None:
    assert call(app, path)[0] == 401
    assert call(app, path, authorization="Bearer token")[0] != 401


@pytest.mark.parametrize(
    "host",
    ["evil/..", "a b", 'a"', "a>; rel=x", "h:99999999", "user@h", "[::1", "h, i", "\xe9", "h?x", "h#x"],
)
def test_a_malformed_host_reaches_no_link(app: DoorApp, host: str) -> None:
    path = "/api/models/health/tree/main?limit=1"
    status, headers, _ = call(app, path, host)
    assert (status, "link" in headers) == (400, False)


@pytest.mark.parametrize("host", ["h", "127.0.0.1:8080", "[::1]:8080", "models.example", "a_b"])
def test_a_host_is_repeated_in_the_address_of_the_next_page(app: DoorApp, host: str) -> None:
    status, headers, body = call(app, "/api/models/health/tree/main?limit=1", host)
    assert (status, len(json.loads(body))) == (200, 1)
    address = f"http://{host}/api/models/health/tree/main?limit=1&cursor=1"
    assert headers["link"] == f'<{address}>; rel="next"'


def test_names_that_no_model_has_are_no_labels(app: DoorApp) -> None:
    for path in ("/no/such/resolve/main/x", '/a"b/resolve/main/x', "/a%0Ab/resolve/main/x"):
        assert call(app, path)[0] == 404
    page = call(app, "/metrics")[2].decode()
    assert "such" not in page
    assert 'door_requests_total{door="hf",model="",status="404"}' in page


class Connection:
    """A connection with TLS whose client goes away after some pieces."""

    is_encrypted = True

    def __init__(self, pieces: int) -> None:
        self._left = pieces

    @property
    def is_closed(self) -> bool:
        self._left -= 1
        return self._left < 0


def send_encrypted(body: Iterator[bytes], size: int, pieces: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Send a body over a Connection(pieces); return the messages, and why it was cut off."""
    sent: list[dict[str, Any]] = []
    reasons: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def run() -> None:
        with ThreadPoolExecutor(1) as threads:
            sender = Sender(threads, Metrics(), ServeLimits())
            scope = {"path": "/x", "method": "GET", "extensions": {_EXTENSION: Connection(pieces)}}
            asgi = AsgiRequest(scope, receive, send)
            response = GatewayResponse(200, {}, body, size)
            await sender.send(response, asgi, {}, lambda _, reason: reasons.append(reason))
            sender.close()

    asyncio.run(run())
    return sent, reasons


def test_a_client_that_goes_away_over_tls_ends_the_reading() -> None:
    read: list[int] = []

    def body() -> Iterator[bytes]:
        for number in range(100):
            read.append(number)
            yield bytes(1 << 20)

    sent, reasons = send_encrypted(body(), 100 << 20, 3)
    assert (len(read), len(sent), reasons) == (4, 4, [])
    read.clear()
    sent, _ = send_encrypted(body(), 100 << 20, 1000)
    assert (len(read), sent[-1].get("more_body", False)) == (100, False)


def test_a_body_that_fails_over_tls_is_not_ended() -> None:
    def body() -> Iterator[bytes]:
        yield bytes(1 << 20)
        raise DataError("is damaged")

    sent, reasons = send_encrypted(body(), 2 << 20, 1000)
    assert reasons == ["is damaged"]
    assert all(message.get("more_body", True) for message in sent)


def test_what_is_not_in_the_index_is_not_read(app: DoorApp) -> None:
    for cid in (hash_block(RAW, b"other"), hash_block(DAG_PB, b"other")):
        assert call(app, f"/ipfs/{cid}?format=raw", authorization="Bearer token")[0] == 404
