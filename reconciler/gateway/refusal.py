"""Why a request gets no content: an HTTP status and one line for whoever reads it."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """An answer without content. `message` is shown to the client, so it names nothing of this machine."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
