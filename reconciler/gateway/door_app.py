"""The ASGI application of the doors: it finds the door of a request, and leaves the rest to the gateway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.gateway.app import GatewayApp, query_of, raw_path
from reconciler.gateway.doors.interface import (
    MAX_BODY,
    Door,
    DoorAnswer,
    DoorRequest,
    bearer_token,
    split_path,
)
from reconciler.gateway.doors.open import OpenedDoors
from reconciler.gateway.releases import Missing, ReleaseMissingError
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.stores import MissingBlockError
from reconciler.gateway.stream import AsgiRequest

_CONTENT_PATHS = ("/ipfs/", "/routing/")
_OTHER_PATHS = ("/health", "/metrics")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PING = "/v2/"  # of OCI clients, the only path of a door with a slash at its end
_BODY_SECONDS = 20.0
_THREADS = 32  # for requests, which may wait for an upstream, or for digests; bodies have other ones


class DoorApp:
    """The doors in front of `gateway`; `rest` answers every path that no door recognizes."""

    def __init__(self, gateway: GatewayApp, opened: OpenedDoors, rest: ASGIApp) -> None:
        self._gateway = gateway
        self._view = opened.view
        self._doors = tuple(opened.doors)
        self._access = opened.access
        self._rest = rest
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="doors")

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        decoded = scope["path"]  # the other routes are chosen by it
        if scope["type"] != "http" or decoded in _OTHER_PATHS:
            await self._rest(scope, receive, send)
            return
        asgi = AsgiRequest(scope, receive, send)
        try:
            if decoded.startswith(_CONTENT_PATHS):
                if scope["method"] != "OPTIONS":
                    self._check_token(scope)
                await self._rest(scope, receive, send)
                return
            request = _request(scope, raw_path(scope))
        except RequestRefusedError as refusal:
            await self._gateway.refuse(refusal, asgi)
            return
        door = next((each for each in self._doors if each.recognizes(request)), None)
        if door is None:
            await self._rest(scope, receive, send)
            return
        await self._answer(door, request, asgi)

    def _check_token(self, scope: Scope) -> None:
        """Raise RequestRefusedError (401) when some models need a token and the request has none of them.

        A CID does not say which model it belongs to, so any of the tokens will do.
        """
        if self._access.rules and not self._access.knows(bearer_token(_headers(scope))):
            raise RequestRefusedError(401, "this server needs a token", {"WWW-Authenticate": "Bearer"})

    async def _answer(self, door: Door, request: DoorRequest, asgi: AsgiRequest) -> None:
        gateway = self._gateway
        model = ""
        try:
            with gateway.admitted(asgi):
                try:
                    if request.method == "POST":
                        request = replace(request, body=await _read_body_in_time(asgi.receive))
                    answer = await asyncio.get_running_loop().run_in_executor(
                        self._threads, self._respond, door, request
                    )
                    model = answer.model
                    await gateway.send(answer.response, asgi)
                    status = answer.response.status
                except RequestRefusedError as refusal:
                    status = refusal.status
                    await gateway.send(door.refuse(refusal, request), asgi)
        except RequestRefusedError as refusal:  # not admitted
            status = refusal.status
            await gateway.send(door.refuse(refusal, request), asgi)
        gateway.metrics.count_door(door.name, model, status)

    def _respond(self, door: Door, request: DoorRequest) -> DoorAnswer:
        """Return the response. Runs in a thread, since it reads blocks. Raises RequestRefusedError."""
        gateway = self._gateway
        try:
            gateway.stores.refresh()
            self._view.refresh()
            return door.answer(request)
        except PeerError as error:
            gateway.log(f"{request.path}: {error.message}")
            raise RequestRefusedError(503, "a store cannot be read", {"Retry-After": "10"}) from None
        except MissingBlockError as error:
            gateway.log(f"{request.path}: {error.message}")
            raise ReleaseMissingError(
                Missing.REVISION, "a block of this version is not in the stores of this server"
            ) from None
        except (BlockUnavailableError, DataError) as error:
            gateway.log(f"{request.path}: {error.message}")
            raise RequestRefusedError(500, "a block of this version is damaged in the stores") from None


def _request(scope: Scope, path: str) -> DoorRequest:
    """Return the request without its body. Raises RequestRefusedError."""
    segments = split_path(path.rstrip("/") if path == _PING else path)
    headers = _headers(scope)
    host = headers.get("host", "")
    if host and not _HOST.fullmatch(host):
        raise RequestRefusedError(400, "the Host header is malformed")
    address = f"{scope['scheme']}://{host}" if host else ""
    return DoorRequest(scope["method"], path, segments, headers, query_of(scope), address=address)


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers; several of one name are joined with commas (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def _read_body_in_time(receive: Receive) -> bytes:
    """Return the body of a request. Raises RequestRefusedError for one that is slow, large or cut off."""
    try:
        return await asyncio.wait_for(_read_body(receive), _BODY_SECONDS)
    except TimeoutError:
        message = "the body of the request takes too long"
        raise RequestRefusedError(408, message, {"Connection": "close"}) from None


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message: Mapping[str, object] = await receive()
        if message["type"] != "http.request":
            raise RequestRefusedError(400, "the client has disconnected")
        part = message.get("body", b"")
        body += part if isinstance(part, bytes) else b""
        if len(body) > MAX_BODY:
            raise RequestRefusedError(413, f"a body of more than {MAX_BODY} bytes", {"Connection": "close"})
        if not message.get("more_body", False):
            return bytes(body)
