"""What is answered to a request: status, headers, and the body as an iterator that reads blocks as it goes.

Sources: the path gateway specification (status codes, Etag, Cache-Control, Content-Disposition, Location),
the trustless gateway specification (raw and CAR), RFC 9110.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from reconciler.errors import BlockUnavailable
from reconciler.gateway import dag, listing
from reconciler.gateway.accept import CAR_TYPE, RAW_TYPE, Format
from reconciler.gateway.files import file_bytes
from reconciler.gateway.media_type import media_type
from reconciler.gateway.paths import Missing, Node, ReadBlock, Resolved, find, open_node, resolve
from reconciler.gateway.ranges import Span, http_ranges
from reconciler.gateway.refusal import Refusal
from reconciler.gateway.request import Asked

IMMUTABLE = "public, max-age=29030400, immutable"
_LISTING_CACHE = "public, max-age=604800, stale-while-revalidate=2678400"
_INDEX = b"index.html"
_SNIFFED = 512  # bytes of a file that its type may be told by

Body = Iterator["bytes | memoryview"]
OpenSpan = Callable[[Span], Body]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `size` is bytes of the body, None when they are not known before it is sent.

    `body` may raise Missing, BlockUnavailable or DataError while it is read; then the answer is cut off.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=lambda: iter(()))
    size: int | None = 0


def answer(asked: Asked, read: ReadBlock) -> Answer:
    """The answer to a request for content. Raises Refusal, Missing, BlockUnavailable, DataError."""
    try:
        resolved = resolve(asked.root, asked.segments, read)
    except Missing:
        if asked.only_if_cached:
            raise Refusal(412, "not in this gateway's stores") from None
        raise
    if asked.wanted.format is Format.RAW:
        return _raw(asked, resolved)
    if asked.wanted.format is Format.CAR:
        return _car(asked, resolved, read)
    return _content(asked, resolved, read)


def _common(asked: Asked, resolved: Resolved, etag: str, cache: str = IMMUTABLE) -> dict[str, str]:
    headers = {
        "Etag": etag,
        "Cache-Control": cache,
        "X-Ipfs-Path": asked.path,
        "X-Ipfs-Roots": ",".join(map(str, resolved.roots)),
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept",
    }
    if asked.wanted.by_header:
        separator = "&" if asked.query else ""
        headers["Content-Location"] = (
            f"{asked.path}?{asked.query}{separator}format={asked.wanted.format.value}"
        )
    return headers


def _not_modified(asked: Asked, headers: Mapping[str, str]) -> bool:
    if asked.if_none_match is None:
        return False
    etag = headers["Etag"].removeprefix("W/")
    given = (text.strip().removeprefix("W/") for text in asked.if_none_match.split(","))
    return any(text in ("*", etag) for text in given)


def _raw(asked: Asked, resolved: Resolved) -> Answer:
    address, block = resolved.end.address, resolved.end.block
    headers = _common(asked, resolved, f'"{address}.raw"')
    headers |= {
        "Content-Type": RAW_TYPE,
        "Content-Disposition": disposition("attachment", asked.filename or f"{address}.bin"),
    }
    return _bytes(asked, headers, len(block), lambda span: iter((memoryview(block)[span.start : span.stop],)))


def _car(asked: Asked, resolved: Resolved, read: ReadBlock) -> Answer:
    terms = asked.car
    size = resolved.end.file_size
    if terms.entity is not None and size is not None and terms.entity.lies_outside(size):
        raise Refusal(400, f"entity-bytes begins behind the end: the entity has {size} bytes")
    dups = "y" if terms.dups else "n"
    entity = terms.entity.text if terms.entity else ""
    variant = "|".join((*map(str, resolved.roots), terms.scope, entity, dups))
    etag = f'"{resolved.end.address}.car-{terms.scope}.{hashlib.sha256(variant.encode()).hexdigest()[:16]}"'
    headers = _common(asked, resolved, etag)
    headers |= {
        "Content-Type": f"{CAR_TYPE}; version=1; order=dfs; dups={dups}",
        "Content-Disposition": disposition("attachment", asked.filename or f"{resolved.end.address}.car"),
        "Accept-Ranges": "none",
    }
    if _not_modified(asked, headers):
        return Answer(304, headers)
    return Answer(200, headers, dag.car_stream(resolved, terms, read), None)


def _content(asked: Asked, resolved: Resolved, read: ReadBlock) -> Answer:
    end = resolved.end
    if end.is_directory:
        if not asked.trailing_slash:
            query = f"?{asked.query}" if asked.query else ""
            return Answer(301, {"Location": f"{asked.path}/{query}", "Cache-Control": IMMUTABLE})
        index = find(end, _INDEX, read)
        if index is None:
            return _listing(asked, resolved, read)
        return _file(asked, resolved, open_node(index, read), _INDEX, read)
    if end.file_size is None:
        raise Refusal(406, "not a UnixFS file or directory; ask for it with ?format=raw")
    name = asked.segments[-1] if asked.segments else b""
    return _file(asked, resolved, end, name, read)


def _listing(asked: Asked, resolved: Resolved, read: ReadBlock) -> Answer:
    headers = _common(
        asked, resolved, f'"DirIndex-{listing.VERSION}_CID-{resolved.end.address}"', _LISTING_CACHE
    )
    headers |= {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": listing.POLICY}
    if _not_modified(asked, headers):
        return Answer(304, headers)
    page = listing.page(asked, resolved, read).encode()
    return Answer(200, headers, iter((page,)), len(page))


def _file(asked: Asked, resolved: Resolved, file: Node, name: bytes, read: ReadBlock) -> Answer:
    size = file.file_size
    if size is None:
        raise Refusal(406, "index.html is no file")
    headers = _common(asked, resolved, f'"{resolved.end.address}"')
    if asked.filename or asked.download:
        shown = asked.filename or name.decode("utf-8", "replace") or str(file.address)
        headers["Content-Disposition"] = disposition("attachment" if asked.download else "inline", shown)
    if _not_modified(asked, headers):
        return Answer(304, headers)
    title = asked.filename.encode() if asked.filename else name

    def head() -> bytes:
        try:
            return b"".join(file_bytes(file, Span(0, min(size, _SNIFFED)), read))
        except BlockUnavailable:  # a range behind it can be served all the same
            return b"\0"

    headers["Content-Type"] = media_type(title, head)
    return _bytes(asked, headers, size, lambda span: file_bytes(file, span, read))


def _bytes(asked: Asked, headers: dict[str, str], size: int, open_span: OpenSpan) -> Answer:
    """An answer of bytes of which ranges may be asked for."""
    headers["Accept-Ranges"] = "bytes"
    if _not_modified(asked, headers):
        return Answer(304, headers)
    stale = asked.if_range is not None and asked.if_range != headers["Etag"]
    spans = http_ranges(None if stale else asked.range, size)
    if not spans:
        return Answer(200, headers, open_span(Span(0, size)), size)
    if len(spans) == 1:
        (span,) = spans
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        return Answer(206, headers, open_span(span), span.size)
    boundary = hashlib.sha256(f"{headers['Etag']}{asked.range}".encode()).hexdigest()[:32]
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
    return Answer(206, headers, body(), total)


def disposition(kind: str, filename: str) -> str:
    """Content-Disposition with a name: ASCII for old clients, and as RFC 8187 says where it needs more."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in filename)
    text = f'{kind}; filename="{plain}"'
    return text if plain == filename else f"{text}; filename*=UTF-8''{quote(filename, safe='')}"
