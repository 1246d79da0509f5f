"""The gateway as an ASGI application: routes, limits, and what is said when something fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.content import cid as cids
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.gateway import identity, providers
from reconciler.gateway import stream as exposition
from reconciler.gateway.paths import MissingPathError
from reconciler.gateway.request import (
    PREFIX,
    ContentRequest,
    Format,
    RequestRefusedError,
    car_terms,
    negotiate,
    read_request,
)
from reconciler.gateway.responses import GatewayResponse, respond
from reconciler.gateway.stores import Admission, ServeLimits, Stores
from reconciler.gateway.stream import Connection, Metrics, Sender

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Range, User-Agent, X-Requested-With",
    "Access-Control-Expose-Headers": "Content-Range, Content-Length, Content-Location, Etag, X-Ipfs-Path, "
    "X-Ipfs-Roots, X-Chunked-Output, X-Stream-Output",
}
_METHODS = ["GET", "HEAD", "OPTIONS"]
_MAX_QUERY = 4096
_MAX_FIELDS = 32


class GatewayApp:
    """What the handlers share. `addresses` are the multiaddrs announced; `log` gets one line an event."""

    def __init__(
        self, stores: Stores, addresses: Sequence[str], *, limits: ServeLimits, log: Callable[[str], None]
    ) -> None:
        self.stores = stores
        self.addresses = tuple(addresses)
        self.metrics = Metrics()
        self.admission = Admission(limits)
        self.log = log
        # Reading and hashing release the interpreter, so a few threads keep the cores busy.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="gateway")
        self._sender = Sender(self._threads, self.metrics, limits)

    def close(self) -> None:
        """End the threads."""
        self._sender.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def content(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`/ipfs/…`."""
        request = Request(scope)
        client = scope["client"][0] if scope.get("client") else ""
        kind = "other"
        try:
            with self.admission.admitted(client):
                self.metrics.active = self.admission.active
                found, kind = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._answer, _raw_path(scope), dict(request.headers), _query(scope)
                )
                await self._sender.send(found, Connection(scope, receive, send), _CORS, self._cut_off)
                self.metrics.answered(kind, found.status)
        except RequestRefusedError as refusal:
            self.metrics.answered(kind, refusal.status)
            await _refused(refusal, scope, receive, send)
        finally:
            self.metrics.active = self.admission.active

    def _answer(self, path: str, headers: Mapping[str, str], query: str) -> tuple[GatewayResponse, str]:
        """The respond and its kind. Runs in a thread, since it reads blocks. Raises RequestRefusedError."""
        try:
            self.stores.refresh()
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except PeerError as error:
            self.log(f"{path}: {error.message}")
            raise RequestRefusedError(503, "a store cannot be read", {"Retry-After": "10"}) from None
        except ValueError:
            raise RequestRefusedError(400, "the query has too many fields") from None
        itself = identity.parse(path.removeprefix(PREFIX).rstrip("/"))
        if itself is not None:
            return _identity(itself, dict(pairs), headers)
        asked = read_request(path, query, pairs, headers)
        try:
            return respond(asked, self.stores.read), _kind(asked)
        except MissingPathError as error:
            raise RequestRefusedError(404, f"not in this gateway's stores: {error.message}") from None
        except BlockUnavailableError as error:
            self.log(f"{path}: {error.message}")
            raise RequestRefusedError(
                500, "a block of this content is damaged here; another provider may have it"
            ) from None
        except DataError as error:
            raise RequestRefusedError(
                422, f"the content is not as UnixFS wants it: {error.message}"
            ) from None

    def _cut_off(self, path: str, reason: str) -> None:
        self.metrics.cut_off()
        self.log(f"{path}: cut off: {reason}")

    async def providers(self, request: Request) -> Response:
        """`/routing/v1/providers/{cid}`."""
        try:
            cid = cids.parse(request.path_params["cid"])
        except DataError as error:
            return PlainTextResponse(error.message + "\n", 422, _CORS)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self.stores.refresh)
        except PeerError as error:
            self.log(f"/routing/v1: {error.message}")
            return PlainTextResponse("a store cannot be read\n", 503, _CORS | {"Retry-After": "10"})
        lines = "application/x-ndjson" in request.headers.get("accept", "")
        held = self.stores.has(cid)
        body, kind = providers.providers(
            self.addresses, held=held, query=dict(request.query_params), lines=lines
        )
        age = 300 if held else 15
        headers = _CORS | {"Cache-Control": f"public, max-age={age}", "Vary": "Accept"}
        return Response(body, 200, headers, media_type=kind)

    async def health(self, _: Request) -> Response:
        """`/health`: 200 when the stores can be read."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self.stores.refresh)
        except PeerError as error:
            self.log(f"/health: {error.message}")
            return PlainTextResponse("a store cannot be read\n", 503)
        return PlainTextResponse(f"ok: {self.stores.roots} roots\n", headers={"Cache-Control": "no-store"})

    async def exposition(self, _: Request) -> Response:
        """`/metrics`."""
        text = self.metrics.text(roots=self.stores.roots, blocks=self.stores.blocks)
        return Response(text, media_type=exposition.CONTENT_TYPE, headers={"Cache-Control": "no-store"})


def application(gateway: GatewayApp) -> ASGIApp:
    """The routes. Every other path is a 404, every other method a 405."""
    content = _Content(gateway)
    return Starlette(
        routes=[
            Route(f"{PREFIX}{{rest:path}}", content),
            Route("/routing/v1/providers/{cid}", gateway.providers, methods=["GET"]),
            Route("/health", gateway.health, methods=["GET"]),
            Route("/metrics", gateway.exposition, methods=["GET"]),
        ]
    )


class _Content:
    """`/ipfs/…` as an application of its own, since a body that fails must not be ended."""

    def __init__(self, gateway: GatewayApp) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=_CORS)(scope, receive, send)
        elif scope["method"] not in _METHODS:
            headers = _CORS | {"Allow": ", ".join(_METHODS)}
            await PlainTextResponse("only GET, HEAD and OPTIONS\n", 405, headers)(scope, receive, send)
        else:
            await self._gateway.content(scope, receive, send)


async def _refused(refusal: RequestRefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    headers = _CORS | {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} | refusal.headers
    await PlainTextResponse(refusal.message + "\n", refusal.status, headers)(scope, receive, send)


def _raw_path(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("ascii", "replace")


def _query(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    if len(query) > _MAX_QUERY:
        raise RequestRefusedError(414, "the query is too long")
    return query.decode("ascii", "replace")


def _identity(
    itself: identity.IdentityBlock, values: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[GatewayResponse, str]:
    wanted = negotiate(values.get("format"), headers.get("accept", ""))
    dups = wanted.format is Format.CAR and car_terms(values, wanted).dups
    return identity.answer(itself, wanted.format, dups=dups), wanted.format.value or "content"


def _kind(asked: ContentRequest) -> str:
    return "content" if asked.wanted.format is Format.CONTENT else asked.wanted.format.value
