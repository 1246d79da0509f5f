"""A peer's whole answer, and how it is read as JSON without believing that it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.net.outcomes import Stalled, Transient, clean
from reconciler.net.secret import Secret

_PROXY_HINT = "is this the address of the API, and not of a proxy or a login page?"


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. Header names are lower case; `body` is all of it, within the caller's limit."""

    peer: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: tuple[Secret, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace")

    @property
    def words(self) -> str:
        """The body, or the reason in its JSON, fit for a person: one short line without secrets."""
        return clean(
            _reason(self.body) or ("" if is_html(self.headers, self.body) else self.text), self.secrets
        )

    def json(self, hook: Callable[[dict[str, object]], object] | None = None) -> object:
        """The body as one JSON value; `hook` replaces each object as it is read, as in `json.loads`.

        Raises Stalled for a web page, Transient when it is cut off or no JSON.
        """
        return parse_json(self.peer, self.headers, self.body, hook)

    def json_lines(self) -> Iterator[object]:
        """The body as JSON values, one a line (NDJSON); an empty body has none. Raises as `json` does."""
        for line in self.body.splitlines():
            if line.strip():
                yield parse_json(self.peer, self.headers, line)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is being read; its connection ends with the context manager that gave it.

    `pieces` gives the body as it comes, once, up to the bytes it is called with. It raises Transient when the
    body breaks off, Stalled when it is longer.
    """

    status: int
    headers: Mapping[str, str]
    pieces: Callable[[int], Iterator[bytes]]


def parse_json(
    peer: str,
    headers: Mapping[str, str],
    body: bytes,
    hook: Callable[[dict[str, object]], object] | None = None,
) -> object:
    """`body` as JSON. Raises Stalled for a web page, Transient when it is cut off or no JSON at all."""
    if is_html(headers, body):
        raise Stalled(peer, "answered with a web page where JSON was expected", hint=_PROXY_HINT)
    try:
        value: object = json.loads(body, object_hook=hook)
    except (ValueError, RecursionError):
        raise Transient(
            peer, "answered with something that is not JSON, or was cut off", hint=_PROXY_HINT
        ) from None
    return value


def is_html(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer is a web page, by its type or its first bytes."""
    return headers.get("content-type", "").lower().startswith("text/html") or body[:64].lstrip()[:1] == b"<"


def _reason(body: bytes) -> str:
    """The wording in the JSON error shapes of the peers we know (Kubo, cluster, pinning services), or ""."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for keys in (("Message",), ("message",), ("error", "details"), ("error", "reason"), ("error",)):
        found = _dig(value, keys)
        if isinstance(found, str) and found:
            return found
    return ""


def _dig(value: object, keys: Iterable[str]) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
