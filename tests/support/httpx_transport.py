"""A transport for clients whose requests a function answers, in the types of httpx."""

from __future__ import annotations

from collections.abc import Callable

import httpcore
import httpx


class HttpxTransport:
    """Implements `net.transport.Transport`: each request gets what `answer` returns or raises."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Answer a request; an exception of httpx is raised as that of httpcore with the same name."""
        assert not isinstance(request.stream, bytes)
        asked = httpx.Request(
            request.method.decode(),
            httpx.URL(
                scheme=request.url.scheme.decode(),
                host=request.url.host.decode(),
                port=request.url.port,
                raw_path=request.url.target,
            ),
            headers=request.headers,
            content=b"".join(request.stream),  # type: ignore[arg-type]  # a stream of this thread
        )
        try:
            said = self._answer(asked)
        except httpx.TransportError as error:
            raise getattr(httpcore, type(error).__name__)(str(error)) from error
        return httpcore.Response(said.status_code, headers=said.headers.raw, content=said.read())
