"""The media type of a file: by its name, else by its first bytes; the same on every machine.

A directory as a page: names, sizes and CIDs, with links; and nothing that runs in a browser.

What is answered to a request: status, headers, and the body as an iterator that reads blocks as it goes.

Sources: the path gateway specification (status codes, Etag, Cache-Control, Content-Disposition, Location),
the trustless gateway specification (raw and CAR), RFC 9110.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote

from reconciler.errors import BlockUnavailableError
from reconciler.gateway import dag
from reconciler.gateway.dag import file_bytes
from reconciler.gateway.paths import (
    MissingPathError,
    ReadBlock,
    Resolved,
    ResolvedNode,
    entries,
    find,
    open_node,
    resolve,
)
from reconciler.gateway.request import (
    CAR_TYPE,
    PREFIX,
    RAW_TYPE,
    ContentRequest,
    Format,
    RequestRefusedError,
    Span,
    http_ranges,
)

_BY_NAME = mimetypes.MimeTypes(filenames=())  # the table of the language, not that of this machine
_MORE = {
    ".safetensors": "application/octet-stream",
    ".gguf": "application/octet-stream",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".jsonl": "application/jsonl",
    ".wasm": "application/wasm",
}


def media_type(name: bytes, head: Callable[[], bytes]) -> str:
    """The Content-Type for a file called `name`, whose first bytes `head` gives when they are needed."""
    text = name.decode("utf-8", "replace").lower()
    suffix = text[text.rfind(".") :] if "." in text else ""
    kind = _MORE.get(suffix) or _BY_NAME.guess_type(f"file{suffix}", strict=True)[0]
    if kind is None:
        kind = "text/plain" if _is_text(head()) else "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:  # the sample may end within a character
            return False
        text = data[: error.start].decode()
    return all(character >= " " or character in "\t\n\r\f" for character in text)


VERSION = "1"  #: part of the Etag: raise it when the page changes
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
MAX_ENTRIES = 10_000  #: of one page

_STYLE = "body{font:15px sans-serif;margin:2em}td{padding:.1em 1em .1em 0}.ipfs-hash{font-family:monospace}"


def listing_page(asked: ContentRequest, resolved: Resolved, read: ReadBlock) -> str:
    """The page of the directory at the end of a path.

    Raises RequestRefusedError (501) when it has too many entries.
    """
    here = asked.path.rstrip("/")
    rows = [f'<tr><td><a href="{escape(here)}/..">..</a></td></tr>'] if asked.segments else []
    for link, name, address in entries(resolved.end, read):
        if len(rows) > MAX_ENTRIES:
            raise RequestRefusedError(
                501, f"a directory of more than {MAX_ENTRIES} entries is not listed; ask for its CAR"
            )
        text = name.decode("utf-8", "replace")
        target = f"{here}/{quote(name, safe='')}"
        # Encoded twice, as other gateways do: once as a value of the query, once as part of a link.
        shown = f"{PREFIX}{address}?filename={quote(quote(name, safe=''))}"
        rows.append(
            f'<tr><td><a href="{escape(target)}">{escape(text)}</a></td>'
            f'<td><a class="ipfs-hash" translate="no" href="{escape(shown)}">{address}</a></td>'
            f"<td>{link.tsize:,} B</td></tr>"
        )
    title = f"{PREFIX}{resolved.roots[0]}" + "".join(
        f"/{escape(name.decode('utf-8', 'replace'))}" for name in asked.segments
    )
    return (
        f"<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>Index of {title}</title>"
        f"<style>{_STYLE}</style></head><body><h1>Index of {_crumbs(asked, resolved)}</h1>"
        f"<table>{''.join(rows)}</table></body></html>\n"
    )


def _crumbs(asked: ContentRequest, resolved: Resolved) -> str:
    """The path with a link for each of its parts."""
    target = f"{PREFIX}{resolved.roots[0]}"
    text = f'{PREFIX}<a href="{target}">{resolved.roots[0]}</a>'
    for name in asked.segments:
        target += f"/{quote(name, safe='')}"
        text += f'/<a href="{escape(target)}">{escape(name.decode("utf-8", "replace"))}</a>'
    return text


IMMUTABLE = "public, max-age=29030400, immutable"
_LISTING_CACHE = "public, max-age=604800, stale-while-revalidate=2678400"
_INDEX = b"index.html"
_SNIFFED = 512  # bytes of a file that its type may be told by

Body = Iterator["bytes | memoryview"]
OpenSpan = Callable[[Span], Body]


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """One response. `size` is bytes of the body, None when they are not known before it is sent.

    `body` may raise MissingPathError, BlockUnavailableError or DataError while it is read; then the response
    is cut off.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=lambda: iter(()))
    size: int | None = 0


def respond(asked: ContentRequest, read: ReadBlock) -> GatewayResponse:
    """The respond to a request for content.

    Raises RequestRefusedError, MissingPathError, BlockUnavailableError, DataError.
    """
    try:
        resolved = resolve(asked.root, asked.segments, read)
    except MissingPathError:
        if asked.only_if_cached:
            raise RequestRefusedError(412, "not in this gateway's stores") from None
        raise
    if asked.wanted.format is Format.RAW:
        return _raw(asked, resolved)
    if asked.wanted.format is Format.CAR:
        return _car(asked, resolved, read)
    return _content(asked, resolved, read)


def _common(asked: ContentRequest, resolved: Resolved, etag: str, cache: str = IMMUTABLE) -> dict[str, str]:
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


def _not_modified(asked: ContentRequest, headers: Mapping[str, str]) -> bool:
    if asked.if_none_match is None:
        return False
    etag = headers["Etag"].removeprefix("W/")
    given = (text.strip().removeprefix("W/") for text in asked.if_none_match.split(","))
    return any(text in ("*", etag) for text in given)


def _raw(asked: ContentRequest, resolved: Resolved) -> GatewayResponse:
    address, block = resolved.end.address, resolved.end.block
    headers = _common(asked, resolved, f'"{address}.raw"')
    headers |= {
        "Content-Type": RAW_TYPE,
        "Content-Disposition": disposition("attachment", asked.filename or f"{address}.bin"),
    }
    return _bytes(asked, headers, len(block), lambda span: iter((memoryview(block)[span.start : span.stop],)))


def _car(asked: ContentRequest, resolved: Resolved, read: ReadBlock) -> GatewayResponse:
    terms = asked.car
    size = resolved.end.file_size
    if terms.entity is not None and size is not None and terms.entity.lies_outside(size):
        raise RequestRefusedError(400, f"entity-bytes begins behind the end: the entity has {size} bytes")
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
        return GatewayResponse(304, headers)
    return GatewayResponse(200, headers, dag.car_stream(resolved, terms, read), None)


def _content(asked: ContentRequest, resolved: Resolved, read: ReadBlock) -> GatewayResponse:
    end = resolved.end
    if end.is_directory:
        if not asked.trailing_slash:
            query = f"?{asked.query}" if asked.query else ""
            return GatewayResponse(301, {"Location": f"{asked.path}/{query}", "Cache-Control": IMMUTABLE})
        index = find(end, _INDEX, read)
        if index is None:
            return _listing(asked, resolved, read)
        return _file(asked, resolved, open_node(index, read), _INDEX, read)
    if end.file_size is None:
        raise RequestRefusedError(406, "not a UnixFS file or directory; ask for it with ?format=raw")
    name = asked.segments[-1] if asked.segments else b""
    return _file(asked, resolved, end, name, read)


def _listing(asked: ContentRequest, resolved: Resolved, read: ReadBlock) -> GatewayResponse:
    headers = _common(asked, resolved, f'"DirIndex-{VERSION}_CID-{resolved.end.address}"', _LISTING_CACHE)
    headers |= {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": POLICY}
    if _not_modified(asked, headers):
        return GatewayResponse(304, headers)
    body = listing_page(asked, resolved, read).encode()
    return GatewayResponse(200, headers, iter((body,)), len(body))


def _file(
    asked: ContentRequest, resolved: Resolved, file: ResolvedNode, name: bytes, read: ReadBlock
) -> GatewayResponse:
    size = file.file_size
    if size is None:
        raise RequestRefusedError(406, "index.html is no file")
    headers = _common(asked, resolved, f'"{resolved.end.address}"')
    if asked.filename or asked.download:
        shown = asked.filename or name.decode("utf-8", "replace") or str(file.address)
        headers["Content-Disposition"] = disposition("attachment" if asked.download else "inline", shown)
    if _not_modified(asked, headers):
        return GatewayResponse(304, headers)
    title = asked.filename.encode() if asked.filename else name

    def head() -> bytes:
        try:
            return b"".join(file_bytes(file, Span(0, min(size, _SNIFFED)), read))
        except BlockUnavailableError:  # a range behind it can be served all the same
            return b"\0"

    headers["Content-Type"] = media_type(title, head)
    return _bytes(asked, headers, size, lambda span: file_bytes(file, span, read))


def _bytes(asked: ContentRequest, headers: dict[str, str], size: int, open_span: OpenSpan) -> GatewayResponse:
    """An respond of bytes of which ranges may be asked for."""
    headers["Accept-Ranges"] = "bytes"
    if _not_modified(asked, headers):
        return GatewayResponse(304, headers)
    stale = asked.if_range is not None and asked.if_range != headers["Etag"]
    spans = http_ranges(None if stale else asked.range, size)
    if not spans:
        return GatewayResponse(200, headers, open_span(Span(0, size)), size)
    if len(spans) == 1:
        (span,) = spans
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        return GatewayResponse(206, headers, open_span(span), span.size)
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
    return GatewayResponse(206, headers, body(), total)


def disposition(kind: str, filename: str) -> str:
    """Content-Disposition with a name: ASCII for old clients, and as RFC 8187 says where it needs more."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in filename)
    text = f'{kind}; filename="{plain}"'
    return text if plain == filename else f"{text}; filename*=UTF-8''{quote(filename, safe='')}"
