"""A directory as a page: names, sizes and CIDs, with links; and nothing that runs in a browser."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from reconciler.gateway.paths import ReadBlock, Resolved, entries
from reconciler.gateway.refusal import Refusal
from reconciler.gateway.request import PREFIX, Asked

VERSION = "1"  #: part of the Etag: raise it when the page changes
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
MAX_ENTRIES = 10_000  #: of one page

_STYLE = "body{font:15px sans-serif;margin:2em}td{padding:.1em 1em .1em 0}.ipfs-hash{font-family:monospace}"


def page(asked: Asked, resolved: Resolved, read: ReadBlock) -> str:
    """The page of the directory at the end of a path. Raises Refusal (501) when it has too many entries."""
    here = asked.path.rstrip("/")
    rows = [f'<tr><td><a href="{escape(here)}/..">..</a></td></tr>'] if asked.segments else []
    for link, name, address in entries(resolved.end, read):
        if len(rows) > MAX_ENTRIES:
            raise Refusal(
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


def _crumbs(asked: Asked, resolved: Resolved) -> str:
    """The path with a link for each of its parts."""
    target = f"{PREFIX}{resolved.roots[0]}"
    text = f'{PREFIX}<a href="{target}">{resolved.roots[0]}</a>'
    for name in asked.segments:
        target += f"/{quote(name, safe='')}"
        text += f'/<a href="{escape(target)}">{escape(name.decode("utf-8", "replace"))}</a>'
    return text
