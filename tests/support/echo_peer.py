"""A peer that echoes the credential of every request, in all forms and places."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from tests.support.http_peer import Asked, HttpPeer, Said, http_peer

STATUSES = (200, 302, 400, 401, 403, 404, 409, 422, 429, 500, 503)


def _decoded(credential: str) -> str:
    scheme, _, value = credential.partition(" ")
    return base64.b64decode(value).decode("utf-8", "replace") if scheme == "Basic" else value


def _echo(asked: Asked, status: int, kind: str) -> Said:
    credential = asked.headers.get("x-auth-secret") or asked.headers.get("authorization", "")
    told = f"bad token {_decoded(credential)} in {credential} at {quote(credential, safe='')}"
    headers = {"X-Echo": credential, "WWW-Authenticate": f'Basic realm="{credential}"'}
    if status == 302:
        headers["Location"] = f"http://127.0.0.1:1/?token={quote(_decoded(credential))}"
    if status == 429:
        headers["Retry-After"] = "0"
    if kind == "json":
        body = {"Message": told, "message": told, "error": {"reason": told, "details": told}, "Type": "error"}
        return Said(status, json.dumps(body).encode(), headers)
    text = f"<html><title>{told}</title>{told}</html>" if kind == "html" else told
    headers["Content-Type"] = "text/html" if kind == "html" else "text/plain"
    return Said(status, text.encode(), headers)


@contextmanager
def echo_peer(status: int, kind: str) -> Iterator[HttpPeer]:
    """Run a server on loopback; `kind` is the type of its bodies: json, html or text."""
    with http_peer(lambda asked: _echo(asked, status, kind)) as peer:
        yield peer
