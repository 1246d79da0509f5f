"""The gateway as an ASGI application: routes, admission of requests, and error responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.content import cid as cids
from reconciler.content import workers
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.gateway.admission import METRICS_TYPE, Admission, Metrics, ServeLimits
from reconciler.gateway.providers import providers_body
from reconciler.gateway.read_ahead import make_hasher, reading_ahead
from reconciler.gateway.request import (
    PREFIX,
    ContentRequest,
    Format,
    RequestRefusedError,
    car_terms,
    negotiate,
    parse_request,
)
from reconciler.gateway.responses import GatewayResponse, respond, respond_identity
from reconciler.gateway.stores import MissingBlockError, ReadBlock, Stores
from reconciler.gateway.stream import AsgiRequest, Sender
from reconciler.gateway.written_cid import IdentityCid, parse_identity

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
_THREADS = 4
_WAITING = 4  # threads for each block that is read ahead, where reading is waiting for another machine


class GatewayApp:
    """The handlers and their shared state.

    `addresses` are the announced multiaddrs; `log` is called with one line per event.
    """

    def __init__(
        self, stores: Stores, addresses: Sequence[str], *, limits: ServeLimits, log: Callable[[str], None]
    ) -> None:
        self.stores = stores
        self.addresses = tuple(addresses)
        self.metrics = Metrics()
        self.admission = Admission(limits)
        self.log = log
        # Reading and hashing release the interpreter, so these threads keep the cores busy.
        threads = max(_THREADS, workers.cores(), _WAITING * stores.ahead)
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="gateway")
        self._ahead = make_hasher(stores.verify, stores.ahead)
        self._sender = Sender(self.threads, self.metrics, limits)

    def close(self) -> None:
        """Stop the threads."""
        self._sender.close()
        self._ahead.close()
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def content(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to `/ipfs/…`."""
        request = Request(scope)
        kind = "other"
        asgi = AsgiRequest(scope, receive, send)
        try:
            with self.admitted(asgi):
                response, kind = await asyncio.get_running_loop().run_in_executor(
                    self.threads, self._respond, raw_path(scope), dict(request.headers), query_of(scope)
                )
                await self.send(response, asgi)
                self.metrics.count_response(kind, response.status)
        except RequestRefusedError as refusal:
            self.metrics.count_response(kind, refusal.status)
            await self.refuse(refusal, asgi)

    def reader(self) -> ReadBlock:
        """Return a function that reads the blocks of one body, with the next leaves hashed ahead."""
        return reading_ahead(self.stores.read, self._ahead)

    @contextmanager
    def admitted(self, asgi: AsgiRequest) -> Iterator[None]:
        """Count a request while it is processed. Raises RequestRefusedError (429, 503)."""
        client = asgi.scope["client"][0] if asgi.scope.get("client") else ""
        try:
            with self.admission.admitted(client):
                self.metrics.active = self.admission.active
                yield
        finally:
            self.metrics.active = self.admission.active

    async def send(self, response: GatewayResponse, asgi: AsgiRequest) -> None:
        """Send a response. Raises RequestRefusedError when a short body fails before anything was sent."""
        await self._sender.send(response, asgi, _CORS, self._cut_off)

    async def refuse(self, refusal: RequestRefusedError, asgi: AsgiRequest) -> None:
        """Send a refusal as plain text."""
        headers = _CORS | {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} | refusal.headers
        response = PlainTextResponse(refusal.message + "\n", refusal.status, headers)
        await response(asgi.scope, asgi.receive, asgi.send)

    def _respond(self, path: str, headers: Mapping[str, str], query: str) -> tuple[GatewayResponse, str]:
        """Return the response and its kind. Runs in a thread, since it reads blocks.

        Raises RequestRefusedError.
        """
        try:
            self.stores.refresh()
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except PeerError as error:
            self.log(f"{path}: {error.message}")
            raise RequestRefusedError(503, "a store cannot be read", {"Retry-After": "10"}) from None
        except ValueError:
            raise RequestRefusedError(400, "the query has too many fields") from None
        try:
            identity = parse_identity(path.removeprefix(PREFIX).rstrip("/"))
        except DataError as error:
            raise RequestRefusedError(400, error.message) from None
        if identity is not None:
            return _respond_identity(identity, dict(pairs), headers)
        request = parse_request(path, query, pairs, headers)
        try:
            return respond(request, self.reader()), _kind(request)
        except MissingBlockError as error:
            raise RequestRefusedError(404, f"not in the stores of this gateway: {error.message}") from None
        except BlockUnavailableError as error:
            self.log(f"{path}: {error.message}")
            raise RequestRefusedError(
                500, "a block of this content is damaged; another provider may have it"
            ) from None
        except DataError as error:
            raise RequestRefusedError(422, f"the content is not valid UnixFS: {error.message}") from None

    def _cut_off(self, path: str, reason: str) -> None:
        self.metrics.count_cut_off()
        self.log(f"{path}: cut off: {reason}")

    async def providers(self, request: Request) -> Response:
        """Respond to `/routing/v1/providers/{cid}`."""
        try:
            cid = cids.parse(request.path_params["cid"])
        except DataError as error:
            return PlainTextResponse(error.message + "\n", 422, _CORS)
        try:
            await asyncio.get_running_loop().run_in_executor(self.threads, self.stores.refresh)
        except PeerError as error:
            self.log(f"/routing/v1: {error.message}")
            return PlainTextResponse("a store cannot be read\n", 503, _CORS | {"Retry-After": "10"})
        ndjson = "application/x-ndjson" in request.headers.get("accept", "")
        has_block = self.stores.has(cid)
        body, kind = providers_body(
            self.addresses, has_block=has_block, query=dict(request.query_params), ndjson=ndjson
        )
        age = 300 if has_block else 15
        headers = _CORS | {"Cache-Control": f"public, max-age={age}", "Vary": "Accept"}
        return Response(body, 200, headers, media_type=kind)

    async def health(self, _: Request) -> Response:
        """Respond to `/health`: 200 when the stores can be read, otherwise 503."""
        try:
            await asyncio.get_running_loop().run_in_executor(self.threads, self.stores.refresh)
        except PeerError as error:
            self.log(f"/health: {error.message}")
            return PlainTextResponse("a store cannot be read\n", 503)
        return PlainTextResponse(f"ok: {self.stores.roots} roots\n", headers={"Cache-Control": "no-store"})

    async def metrics_page(self, _: Request) -> Response:
        """Respond to `/metrics`."""
        text = self.metrics.text(roots=self.stores.roots, blocks=self.stores.blocks)
        return Response(text, media_type=METRICS_TYPE, headers={"Cache-Control": "no-store"})


def application(gateway: GatewayApp) -> ASGIApp:
    """Return the ASGI application. Every unknown path is a 404, every other method a 405."""
    content = _ContentApp(gateway)
    return Starlette(
        routes=[
            Route(f"{PREFIX}{{rest:path}}", content),
            Route("/routing/v1/providers/{cid}", gateway.providers, methods=["GET"]),
            Route("/health", gateway.health, methods=["GET"]),
            Route("/metrics", gateway.metrics_page, methods=["GET"]),
        ]
    )


class _ContentApp:
    """The ASGI application for `/ipfs/…`. A handler of starlette would end a body that fails."""

    def __init__(self, gateway: GatewayApp) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=_CORS)(scope, receive, send)
        elif scope["method"] not in _METHODS:
            headers = _CORS | {"Allow": ", ".join(_METHODS)}
            await PlainTextResponse("only GET, HEAD and OPTIONS are allowed\n", 405, headers)(
                scope, receive, send
            )
        else:
            await self._gateway.content(scope, receive, send)


def raw_path(scope: Scope) -> str:
    """Return the path as it was received, percent-encoded."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("ascii", "replace")


def query_of(scope: Scope) -> str:
    """Return the query as it was received. Raises RequestRefusedError (414)."""
    query: bytes = scope["query_string"]
    if len(query) > _MAX_QUERY:
        raise RequestRefusedError(414, "the query is too long")
    return query.decode("ascii", "replace")


def _respond_identity(
    identity: IdentityCid, values: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[GatewayResponse, str]:
    requested = negotiate(values.get("format"), headers.get("accept", ""))
    dups = requested.format is Format.CAR and car_terms(values, requested).dups
    return respond_identity(identity, requested.format, dups=dups), requested.format.value or "content"


def _kind(request: ContentRequest) -> str:
    return "content" if request.requested.format is Format.CONTENT else request.requested.format.value
