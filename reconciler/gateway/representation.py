"""The presentation of content to HTTP clients: media types, file names, and directories as HTML pages."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from html import escape
from urllib.parse import quote

from reconciler.gateway.paths import Resolved, directory_entries
from reconciler.gateway.request import PREFIX, ContentRequest, RequestRefusedError
from reconciler.gateway.stores import ReadBlock

LISTING_VERSION = "1"  #: part of the Etag of a page: increase it when the page changes
LISTING_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  #: the Content-Security-Policy of a page
MAX_ENTRIES = 10_000  #: of one page

_TYPES_BY_NAME = mimetypes.MimeTypes(filenames=())  # Python's table, not the one of this machine
_MORE_TYPES = {
    ".safetensors": "application/octet-stream",
    ".gguf": "application/octet-stream",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".jsonl": "application/jsonl",
    ".wasm": "application/wasm",
}
_STYLE = "body{font:15px sans-serif;margin:2em}td{padding:.1em 1em .1em 0}.ipfs-hash{font-family:monospace}"


def media_type(name: bytes, head: Callable[[], bytes]) -> str:
    """Return the Content-Type of the file `name`, by its extension or else by its first bytes, which `head`
    returns. It does not depend on the machine.
    """
    text = name.decode("utf-8", "replace").lower()
    suffix = text[text.rfind(".") :] if "." in text else ""
    kind = _MORE_TYPES.get(suffix) or _TYPES_BY_NAME.guess_type(f"file{suffix}", strict=True)[0]
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


def disposition(kind: str, filename: str) -> str:
    """Return a Content-Disposition with an ASCII file name, and with one of RFC 8187 where that differs."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in filename)
    text = f'{kind}; filename="{plain}"'
    return text if plain == filename else f"{text}; filename*=UTF-8''{quote(filename, safe='')}"


def listing_page(request: ContentRequest, resolved: Resolved, read: ReadBlock) -> str:
    """Return the HTML page of the directory at the end of a path: names, sizes, CIDs and links, no scripts.

    Raises RequestRefusedError (501) when it has too many entries, and what `read` raises.
    """
    here = request.path.rstrip("/")
    rows = [f'<tr><td><a href="{escape(here)}/..">..</a></td></tr>'] if request.segments else []
    for link, name, address in directory_entries(resolved.end, read):
        if len(rows) > MAX_ENTRIES:
            raise RequestRefusedError(
                501, f"directories of more than {MAX_ENTRIES} entries are not listed; request a CAR"
            )
        text = name.decode("utf-8", "replace")
        target = f"{here}/{quote(name, safe='')}"
        # Encoded twice, as other gateways do: as a value of the query, and as part of a link.
        shown = f"{PREFIX}{address}?filename={quote(quote(name, safe=''))}"
        rows.append(
            f'<tr><td><a href="{escape(target)}">{escape(text)}</a></td>'
            f'<td><a class="ipfs-hash" translate="no" href="{escape(shown)}">{address}</a></td>'
            f"<td>{link.tsize:,} B</td></tr>"
        )
    title = f"{PREFIX}{resolved.roots[0]}" + "".join(
        f"/{escape(name.decode('utf-8', 'replace'))}" for name in request.segments
    )
    return (
        f"<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>Index of {title}</title>"
        f"<style>{_STYLE}</style></head><body><h1>Index of {_breadcrumbs(request, resolved)}</h1>"
        f"<table>{''.join(rows)}</table></body></html>\n"
    )


def _breadcrumbs(request: ContentRequest, resolved: Resolved) -> str:
    """Return the path with a link for each of its segments."""
    target = f"{PREFIX}{resolved.roots[0]}"
    text = f'{PREFIX}<a href="{target}">{resolved.roots[0]}</a>'
    for name in request.segments:
        target += f"/{quote(name, safe='')}"
        text += f'/<a href="{escape(target)}">{escape(name.decode("utf-8", "replace"))}</a>'
    return text
