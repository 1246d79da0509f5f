"""The response to a request: status, headers, and the body as an iterator that reads blocks on demand.

Sources: the Path Gateway specification (status codes, Etag, Cache-Control, Content-Disposition, Location),
the Trustless Gateway specification (raw and CAR), RFC 9110.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.content import car
from reconciler.errors import BlockUnavailableError
from reconciler.gateway.bodies import car_stream, file_bytes
from reconciler.gateway.paths import Resolved, ResolvedNode, find_entry, open_node, resolve_path
from reconciler.gateway.representation import (
    LISTING_POLICY,
    LISTING_VERSION,
    disposition,
    listing_page,
    media_type,
)
from reconciler.gateway.request import (
    CAR_TYPE,
    PREFIX,
    RAW_TYPE,
    Conditions,
    ContentRequest,
    Format,
    RequestRefusedError,
    Span,
    http_ranges,
)
from reconciler.gateway.stores import MissingBlockError, ReadBlock
from reconciler.gateway.written_cid import IdentityCid

_IMMUTABLE = "public, max-age=29030400, immutable"
_LISTING_CACHE = "public, max-age=604800, stale-while-revalidate=2678400"
_INDEX = b"index.html"
_SNIFFED = 512  # bytes of a file that decide its type

Body = Iterator["bytes | memoryview"]
OpenSpan = Callable[[Span], Body]


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """A response. `size` is the length of the body in bytes, None when it is unknown before it is sent.

    Iterating over `body` may raise MissingBlockError, BlockUnavailableError or DataError; then the response
    is cut off.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=lambda: iter(()))
    size: int | None = 0


def respond(request: ContentRequest, read: ReadBlock) -> GatewayResponse:
    """Return the response to a request for content.

    Raises RequestRefusedError, MissingBlockError, BlockUnavailableError, DataError.
    """
    try:
        resolved = resolve_path(request.root, request.segments, read)
    except MissingBlockError:
        if request.only_if_cached:
            raise RequestRefusedError(412, "not in the stores of this gateway") from None
        raise
    if request.requested.format is Format.RAW:
        return _raw(request, resolved)
    if request.requested.format is Format.CAR:
        return _car(request, resolved, read)
    return _content(request, resolved, read)


def respond_identity(identity: IdentityCid, requested: Format, *, dups: bool) -> GatewayResponse:
    """Return the data of an identity CID as content, as a block, or as a CAR, which contains no block for
    it.
    """
    body = identity.data
    headers = {
        "Cache-Control": _IMMUTABLE,
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": f"{PREFIX}{identity.text}",
        "X-Ipfs-Roots": identity.text,
        "Vary": "Accept",
        "Etag": f'"{identity.text}.{requested.value}"',
    }
    if requested is Format.CAR:
        body = car.header(identity.cid)
        headers |= {
            "Content-Type": f"{CAR_TYPE}; version=1; order=dfs; dups={'y' if dups else 'n'}",
            "Content-Disposition": disposition("attachment", f"{identity.text}.car"),
            "Accept-Ranges": "none",
        }
    elif requested is Format.RAW:
        headers |= {
            "Content-Type": RAW_TYPE,
            "Content-Disposition": disposition("attachment", f"{identity.text}.bin"),
        }
    else:
        headers["Content-Type"] = media_type(b"", lambda: identity.data)
    return GatewayResponse(200, headers, iter((body,)), len(body))


def _common_headers(
    request: ContentRequest, resolved: Resolved, etag: str, cache: str = _IMMUTABLE
) -> dict[str, str]:
    headers = {
        "Etag": etag,
        "Cache-Control": cache,
        "X-Ipfs-Path": request.path,
        "X-Ipfs-Roots": ",".join(map(str, resolved.roots)),
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept",
    }
    if request.requested.by_header:
        separator = "&" if request.query else ""
        headers["Content-Location"] = (
            f"{request.path}?{request.query}{separator}format={request.requested.format.value}"
        )
    return headers


def _is_not_modified(conditions: Conditions, headers: Mapping[str, str]) -> bool:
    if conditions.if_none_match is None:
        return False
    etag = headers["Etag"].removeprefix("W/")
    given = (text.strip().removeprefix("W/") for text in conditions.if_none_match.split(","))
    return any(text in ("*", etag) for text in given)


def _raw(request: ContentRequest, resolved: Resolved) -> GatewayResponse:
    address, block = resolved.end.address, resolved.end.block
    headers = _common_headers(request, resolved, f'"{address}.raw"')
    headers |= {
        "Content-Type": RAW_TYPE,
        "Content-Disposition": disposition("attachment", request.filename or f"{address}.bin"),
    }
    data = memoryview(block)
    return with_ranges(
        request.conditions, headers, len(block), lambda span: iter((data[span.start : span.stop],))
    )


def _car(request: ContentRequest, resolved: Resolved, read: ReadBlock) -> GatewayResponse:
    terms = request.car
    size = resolved.end.file_size
    if terms.entity is not None and size is not None and terms.entity.lies_outside(size):
        raise RequestRefusedError(400, f"entity-bytes begins after the end of the entity, at {size} bytes")
    dups = "y" if terms.dups else "n"
    entity = terms.entity.text if terms.entity else ""
    variant = "|".join((*map(str, resolved.roots), terms.scope, entity, dups))
    etag = f'"{resolved.end.address}.car-{terms.scope}.{hashlib.sha256(variant.encode()).hexdigest()[:16]}"'
    headers = _common_headers(request, resolved, etag)
    headers |= {
        "Content-Type": f"{CAR_TYPE}; version=1; order=dfs; dups={dups}",
        "Content-Disposition": disposition("attachment", request.filename or f"{resolved.end.address}.car"),
        "Accept-Ranges": "none",
    }
    if _is_not_modified(request.conditions, headers):
        return GatewayResponse(304, headers)
    return GatewayResponse(200, headers, car_stream(resolved, terms, read), None)


def _content(request: ContentRequest, resolved: Resolved, read: ReadBlock) -> GatewayResponse:
    end = resolved.end
    if end.is_directory:
        if not request.trailing_slash:
            query = f"?{request.query}" if request.query else ""
            location = f"{request.path}/{query}"
            return GatewayResponse(301, {"Location": location, "Cache-Control": _IMMUTABLE})
        index = find_entry(end, _INDEX, read)
        if index is None:
            return _listing(request, resolved, read)
        return _file(request, resolved, open_node(index, read), _INDEX, read)
    if end.file_size is None:
        raise RequestRefusedError(406, "not a UnixFS file or directory; request it with ?format=raw")
    name = request.segments[-1] if request.segments else b""
    return _file(request, resolved, end, name, read)


def _listing(request: ContentRequest, resolved: Resolved, read: ReadBlock) -> GatewayResponse:
    etag = f'"DirIndex-{LISTING_VERSION}_CID-{resolved.end.address}"'
    headers = _common_headers(request, resolved, etag, _LISTING_CACHE)
    headers |= {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": LISTING_POLICY}
    if _is_not_modified(request.conditions, headers):
        return GatewayResponse(304, headers)
    body = listing_page(request, resolved, read).encode()
    return GatewayResponse(200, headers, iter((body,)), len(body))


def _file(
    request: ContentRequest, resolved: Resolved, file: ResolvedNode, name: bytes, read: ReadBlock
) -> GatewayResponse:
    size = file.file_size
    if size is None:
        raise RequestRefusedError(406, "index.html is not a file")
    headers = _common_headers(request, resolved, f'"{resolved.end.address}"')
    if request.filename or request.download:
        shown = request.filename or name.decode("utf-8", "replace") or str(file.address)
        kind = "attachment" if request.download else "inline"
        headers["Content-Disposition"] = disposition(kind, shown)
    if _is_not_modified(request.conditions, headers):
        return GatewayResponse(304, headers)
    title = request.filename.encode() if request.filename else name

    def head() -> bytes:
        try:
            return b"".join(file_bytes(file, Span(0, min(size, _SNIFFED)), read))
        except BlockUnavailableError:  # a range after this block can be served nevertheless
            return b"\0"

    headers["Content-Type"] = media_type(title, head)
    return with_ranges(request.conditions, headers, size, lambda span: file_bytes(file, span, read))


def with_ranges(
    conditions: Conditions, headers: dict[str, str], size: int, open_span: OpenSpan
) -> GatewayResponse:
    """Return a response with the requested ranges of `size` bytes, with all of them, or 304.

    `headers` has the Etag and the Content-Type. Raises RequestRefusedError (416).
    """
    headers["Accept-Ranges"] = "bytes"
    if _is_not_modified(conditions, headers):
        return GatewayResponse(304, headers)
    stale = conditions.if_range is not None and conditions.if_range != headers["Etag"]
    spans = http_ranges(None if stale else conditions.range, size)
    if not spans:
        return GatewayResponse(200, headers, open_span(Span(0, size)), size)
    if len(spans) == 1:
        (span,) = spans
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        return GatewayResponse(206, headers, open_span(span), span.size)
    boundary = hashlib.sha256(f"{headers['Etag']}{conditions.range}".encode()).hexdigest()[:32]
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {headers['Content-Type']}\r\n"
        f"Content-Range: bytes {span.start}-{span.stop - 1}/{size}\r\n\r\n".encode()
        for span in spans
    ]
    tail = f"\r\n--{boundary}--\r\n".encode()

    def body() -> Body:
        for head, span in zip(heads, spans, strict=True):
            yield head
            yield from open_span(span)
        yield tail

    total = sum(map(len, heads)) + sum(span.size for span in spans) + len(tail)
    headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    return GatewayResponse(206, headers, body(), total)
