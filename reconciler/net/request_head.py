"""The address and the headers of a request as httpcore takes them, and the headers of its response. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, urlencode, urlsplit

import httpcore

# What a URL may not contain as it is, by the URL standard of WHATWG; a percent sign only before two digits.
_NOT_IN_PATH = re.compile(r"[^!-~]|[\"#<>`{}]|%(?![0-9A-Fa-f]{2})")
_NOT_IN_QUERY = re.compile(r"[^!-~]|[\"#<>]|%(?![0-9A-Fa-f]{2})")
_DEFAULT_PORTS = {b"http": 80, b"https": 443}


def parse_url(text: str, params: Sequence[tuple[str, str]] = ()) -> httpcore.URL:
    """Return an absolute URL with `params` added to its query; what must not be in one is encoded."""
    path, _, query = text.partition("?")
    parts = urlsplit(path)
    target = _NOT_IN_PATH.sub(_percent_encoded, path[path.index(parts.netloc) + len(parts.netloc) :] or "/")
    query = "&".join(filter(None, (_NOT_IN_QUERY.sub(_percent_encoded, query), urlencode(params))))
    target += f"?{query}" if query else ""
    return httpcore.URL(scheme=parts.scheme, host=parts.hostname or "", port=parts.port, target=target)


def request_headers(
    method: str, url: httpcore.URL, content: bytes | Iterable[bytes] | None, given: Mapping[str, str]
) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request: the `given` ones, and those that HTTP requires.

    A content that is neither bytes nor given with a Content-Length is sent in chunks.
    """
    headers = {"host": _host(url), "accept": "*/*"}
    if isinstance(content, bytes):
        headers["content-length"] = str(len(content))
    elif content is None and method in ("POST", "PUT", "PATCH"):
        headers["content-length"] = "0"
    headers |= {name.lower(): value for name, value in given.items()}
    if content is not None and "content-length" not in headers:
        headers["transfer-encoding"] = "chunked"
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


def merged_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; the values of one that occurs several times, with commas."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _percent_encoded(found: re.Match[str]) -> str:
    return quote(found[0], safe="")


def _host(url: httpcore.URL) -> str:
    host = url.host.decode()
    host = f"[{host}]" if ":" in host else host
    return host if url.port in (None, _DEFAULT_PORTS[url.scheme]) else f"{host}:{url.port}"
