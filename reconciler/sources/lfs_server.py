"""The batch API of Git LFS: where the bytes of objects can be downloaded, and with which headers.

    POST SERVER/objects/batch     {"operation": "download", "objects": [{"oid", "size"}], ...}

The answer names an address for each object, often on another host: it gets the headers that the answer names
for it, and never the secret of the server. Source: docs/api/batch.md of git-lfs, and git-lfs 3.3.0.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.json_fields import JsonFields
from reconciler.net.address import Address
from reconciler.net.auth import Auth
from reconciler.net.errors import RequestError
from reconciler.net.response import peer_fields
from reconciler.sources.http_reader import HttpReader
from reconciler.sources.http_span import HttpSpan
from reconciler.sources.interface import (
    ListedFile,
    SourceError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceUnavailableError,
)
from reconciler.sources.ranges import range_headers

_MEDIA_TYPE = "application/vnd.git-lfs+json"
_LIMIT = 8 << 20  # bytes of an answer
_EXPIRED = (400, 401, 403, 404, 410)
_ASKED = 3  # times that one read asks for an address
_EARLY = 5.0  # seconds before its end from which an address is not used any more
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = ("host", "content-length", "transfer-encoding", "connection", "range", "accept-encoding", "te")


@dataclass(frozen=True, slots=True)
class _Address:
    """Where one object can be read: an address, the headers for it, and until when (monotonic clock)."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    until: float


class LfsServer:
    """A server of Git LFS at `address`, which gets the secret of `auth`. Thread-safe."""

    def __init__(self, name: str, address: Address, auth: Auth | None) -> None:
        self._name = name
        self._base = address.text
        self._http = HttpReader(name, address, auth)
        self._lock = threading.Lock()
        self._known: dict[bytes, _Address] = {}

    @property
    def serves_ranges(self) -> bool | None:
        """See WeightSource.serves_ranges."""
        return self._http.serves_ranges

    @property
    def latency(self) -> float | None:
        """See WeightSource.latency."""
        return self._http.latency

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def span(
        self,
        file: ListedFile,
        start: int,
        end: int,
        *,
        others: Sequence[ListedFile],
        once: bool = False,
    ) -> HttpSpan:
        """Request a range of the object of `file`, whose digests have the SHA-256.

        With `once` no request is repeated, except at a new address where the first one has expired.
        `others` are files that will probably be read next: their addresses are asked for in the same request.
        Raises SourceError, BrokenOffError and SourceChangedError.
        """
        headers = range_headers(file, start, end)
        status = 0
        for _ in range(_ASKED):
            found = self._find(file, others, once=once)
            answer = self._http.open(
                found.url,
                headers=headers,
                private=found.headers,
                expect=(200, 206, 416, *_EXPIRED),
                file=file,
                once=once,
            )
            status = answer.body.status
            if status in (200, 206):
                return self._http.span(answer, file, start, end)
            answer.body.close()
            with self._lock:
                self._known.pop(_oid(file), None)
            if status == 416:
                raise SourceProtocolError(
                    self._name,
                    f"has no bytes {start} to {end - 1} (HTTP 416), in spite of its size of {file.size}",
                    file=file.path,
                )
        kind = SourceMissingError if status in (404, 410) else SourceRefusedError
        raise kind(
            self._name,
            f"has no bytes at the address that the server names (HTTP {status}), also at a new one",
            file=file.path,
        )

    def _find(self, file: ListedFile, others: Sequence[ListedFile], *, once: bool) -> _Address:
        with self._lock:
            now = time.monotonic()
            known = self._known.get(_oid(file))
            if known is not None and now < known.until:
                return known
            wanted = {_oid(file): file}
            for other in others:
                if (there := self._known.get(_oid(other))) is None or now >= there.until:
                    wanted.setdefault(_oid(other), other)
            self._known.update(self._batch(file, wanted, once=once))
            return self._known[_oid(file)]

    def _batch(
        self, file: ListedFile, wanted: Mapping[bytes, ListedFile], *, once: bool
    ) -> dict[bytes, _Address]:
        """Ask for `wanted`; raise SourceError when the answer has no address for `file`."""
        answer = self._http.request(
            "POST",
            f"{self._base}/objects/batch",
            headers={"Accept": _MEDIA_TYPE, "Content-Type": f"{_MEDIA_TYPE}; charset=utf-8"},
            json={
                "operation": "download",
                "transfers": ["basic"],
                "objects": [{"oid": oid.hex(), "size": each.size} for oid, each in wanted.items()],
                "hash_algo": "sha256",
            },
            expect=(200, 404),
            limit=_LIMIT,
            file=file.path,
            once=once,
        )
        if answer.status == 404:
            raise SourceMissingError(
                self._name,
                f"there is no Git LFS server at {self._base} (HTTP 404)",
                hint="set the url of the source; a private repository also needs token_env",
            )
        found: dict[bytes, _Address] = {}
        problem: SourceError | None = None
        try:
            fields = peer_fields(self._name, answer.json())
            transfer, algorithm = fields.text_or("basic", "transfer"), fields.text_or("sha256", "hash_algo")
            if (transfer, algorithm) != ("basic", "sha256"):
                raise SourceProtocolError(
                    self._name,
                    f"offers {self._http.shown(transfer, 40)!r} transfers of "
                    f"{self._http.shown(algorithm, 40)!r} only",
                )
            for item in fields.items("objects"):
                oid = item.text("oid")
                each = wanted.get(bytes.fromhex(oid) if re.fullmatch("[0-9a-f]{64}", oid) else b"")
                if each is None:
                    continue
                try:
                    found[_oid(each)] = self._address(each, item)
                except SourceError as error:
                    problem = error if _oid(each) == _oid(file) else problem
        except RequestError as error:
            raise self._http.source_error(error, file.path) from None
        if _oid(file) not in found:
            raise problem or SourceMissingError(
                self._name, "is missing in the answer of the Git LFS server", file=file.path
            )
        return found

    def _address(self, file: ListedFile, item: JsonFields) -> _Address:
        if item.has("error"):
            raise self._object_error(file, item.number("error", "code"), item.text_or("", "error", "message"))
        if item.number("size") != file.size:
            raise SourceProtocolError(
                self._name,
                f"has {item.number('size')} bytes on the Git LFS server instead of {file.size}",
                file=file.path,
            )
        if not item.has("actions", "download"):
            raise SourceMissingError(self._name, "has no download on the Git LFS server", file=file.path)
        url = item.text("actions", "download", "href")
        self._http.check_target(url, file.path)
        headers: dict[str, str] = {}
        if item.has("actions", "download", "header"):
            for name, value in item.members("actions", "download", "header"):
                text = value.text()
                if not _TOKEN.fullmatch(name) or not text.isascii() or not text.isprintable():
                    raise SourceProtocolError(
                        self._name, "has an invalid header for its download", file=file.path
                    )
                if name.lower() not in _OURS:
                    headers[name] = text
        seconds = item.number_or(0, "actions", "download", "expires_in")
        until = time.monotonic() + seconds - _EARLY if seconds > 0 else float("inf")
        return _Address(url, headers, max(until, time.monotonic() + 1))

    def _object_error(self, file: ListedFile, code: int, message: str) -> SourceError:
        kind: type[SourceError] = SourceProtocolError
        if code in (404, 410):
            kind = SourceMissingError
        elif code in (401, 403):
            kind = SourceRefusedError
        elif code in (408, 425, 429) or code >= 500:
            kind = SourceUnavailableError
        reason = ", ".join(filter(None, (str(code), self._http.shown(message, 120))))
        return kind(
            self._name,
            f"has a pointer, but the Git LFS server gives no object for it ({reason})",
            file=file.path,
            hint="push the object with `git lfs push --all`" if kind is SourceMissingError else None,
        )


def _oid(file: ListedFile) -> bytes:
    assert file.digests.sha256 is not None  # noqa: S101 - a file in Git LFS has one
    return file.digests.sha256
