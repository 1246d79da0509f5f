"""Serve the fake GitHub on a loopback port, for other processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.forges.fake_github import FakeGitHub
from tests.support.http_peer import Asked, Said, http_peer


@contextmanager
def serving(fake: FakeGitHub) -> Iterator[str]:
    """Serve while the block runs; yield the URL of the API."""

    def answer(asked: Asked) -> Said:
        request = httpx.Request(
            asked.method, f"https://api.github.com{asked.target}", headers=asked.headers, content=asked.body
        )
        response = fake.answer(request)
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return Said(response.status_code, response.read(), headers)

    with http_peer(answer) as peer:
        yield peer.url
