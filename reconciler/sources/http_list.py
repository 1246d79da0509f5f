"""A directory on an HTTP server with a SHA256SUMS: the list names the files, and commits to their bytes.

The server needs no listing of its own: `URL/LOCATION/SHA256SUMS` is read, and each file it names is asked for
its size. The SHA256SUMS is a file of the source as well, so a bundle keeps it byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from reconciler.content import checksums
from reconciler.errors import BundleError, SourceChangedError, UsageError
from reconciler.net.address import Address, parse_address
from reconciler.net.auth import Auth, Scheme, from_env
from reconciler.sources.http_reader import HttpReader
from reconciler.sources.http_span import CHANGED_HINT, HttpSpan
from reconciler.sources.interface import (
    FileListing,
    KnownDigests,
    ListedFile,
    SourceDefinition,
    SourceError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceSpan,
)
from reconciler.sources.listing import make_listing
from reconciler.sources.once import Once
from reconciler.sources.ranges import checked_range, range_headers, read_resuming

_HEADS = 16  # files whose sizes are asked for at once
_REFUSALS = {
    401: SourceRefusedError,
    403: SourceRefusedError,
    404: SourceMissingError,
    410: SourceMissingError,
}


def open_source(
    definition: SourceDefinition, location: str, *, root: Path, environ: Mapping[str, str]
) -> HttpListSource:
    """Open the directory `location` below the url of `definition`. Raises UsageError."""
    del root
    parts = location.strip("/").split("/")
    if not definition.url or ".." in parts or "." in parts or not location.isprintable():
        raise UsageError(
            f"the source {definition.name!r} has no url, or {location!r} is not a directory below it",
            hint="set url in releases/sources.yaml, and write a path such as llm/1.2.0",
        )
    address = parse_address(definition.url, f"the url of the source {definition.name!r}")
    auth = None
    if definition.token_env:
        secret = from_env(definition.token_env, environ)
        auth = Auth(Scheme.BASIC if ":" in secret.reveal() else Scheme.BEARER, secret)
    return HttpListSource(f"{definition.name}:{location}", location, address, auth)


class HttpListSource:
    """The files that `SHA256SUMS` in one directory of a server names; the revision is its SHA-256."""

    def __init__(self, name: str, location: str, address: Address, auth: Auth | None) -> None:
        self.name = name
        self._location = location
        self._base = address.join(quote(location.strip("/"), safe="/")).rstrip("/")
        self._http = HttpReader(name, address, auth)
        self._listing = Once(self._list)

    @property
    def serves_ranges(self) -> bool | None:
        """Implement WeightSource.serves_ranges."""
        return self._http.serves_ranges

    @property
    def latency(self) -> float | None:
        """Implement WeightSource.latency."""
        return self._http.latency

    def close(self) -> None:
        """Close all connections. May be called twice."""
        self._http.close()

    def list(self) -> FileListing:
        """Read SHA256SUMS, and ask for the size of every file in it."""
        return self._listing.get()

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """Iterate over a range of `file`. Raises SourceChangedError for another size or ETag."""
        start, end = checked_range(file, start, length)
        yield from read_resuming(
            self.name,
            file,
            start,
            end,
            lambda first, last: self._span(file, first, last).pieces(),
        )

    def request(self, file: ListedFile, start: int, end: int) -> SourceSpan:
        """Implement WeightSource.request."""
        checked_range(file, start, end - start)
        return self._span(file, start, end, once=True)

    def _list(self) -> FileListing:
        data = self._sums()
        digest = hashlib.sha256(data).digest()
        try:
            listed = checksums.parse(data)
        except BundleError as error:
            raise SourceProtocolError(self.name, f"{checksums.NAME}: {error.message}") from None
        if listed.malformed:
            raise SourceProtocolError(
                self.name, f"line {listed.malformed[0]} of {checksums.NAME} has no known form"
            )
        wanted = [(each.path, each.digest) for each in listed.entries if each.path != checksums.NAME]
        # The names are checked before the first of them becomes an address.
        make_listing(self.name, self._location, "", (ListedFile(path, 0) for path, _ in wanted))
        with ThreadPoolExecutor(_HEADS) as pool:
            files = list(pool.map(lambda pair: self._head(*pair), wanted))
        files.append(ListedFile(checksums.NAME, len(data), KnownDigests(sha256=digest)))
        return make_listing(self.name, self._location, f"sha256:{digest.hex()}", files, immutable=True)

    def _sums(self) -> bytes:
        answer = self._http.request(
            "GET", f"{self._base}/{checksums.NAME}", expect=(200, *_REFUSALS), limit=checksums.MAX_SIZE
        )
        if answer.status != 200:
            raise _REFUSALS[answer.status](
                self.name,
                f"answers HTTP {answer.status} for {checksums.NAME}",
                hint="the directory needs a SHA256SUMS; make it with `sha256sum`",
            )
        return answer.body

    def _head(self, path: str, digest: bytes) -> ListedFile:
        """Return a file with the size and the ETag that the server states."""
        file = ListedFile(path, 0, KnownDigests(sha256=digest))
        answer = self._http.open(
            self._url(path), method="HEAD", headers={}, expect=(200, *_REFUSALS, 405, 501), file=file
        )
        answer.body.close()
        length = answer.body.headers.get("content-length", "")
        if answer.body.status in (405, 501):  # some servers answer GET only
            answer = self._http.open(
                self._url(path),
                headers={"Range": "bytes=0-0"},
                expect=(200, 206, 416, *_REFUSALS),
                file=file,
            )
            answer.body.close()
            length = answer.body.headers.get("content-length", "")
            if answer.body.status != 200:
                length = answer.body.headers.get("content-range", "").rpartition("/")[2]
        if answer.body.status in _REFUSALS:
            raise self._refusal(answer.body.status, path)
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise SourceProtocolError(self.name, "comes without its size", file=path)
        etag = answer.body.headers.get("etag", "")
        return ListedFile(path, int(length), file.digests, "" if etag.startswith("W/") else etag)

    def _span(self, file: ListedFile, start: int, end: int, *, once: bool = False) -> HttpSpan:
        headers = range_headers(file, start, end)
        answer = self._http.open(
            self._url(file.path), headers=headers, expect=(200, 206, 416, *_REFUSALS), file=file, once=once
        )
        status = answer.body.status
        if status in (200, 206):
            return self._http.span(answer, file, start, end)
        answer.body.close()
        if status == 416:
            raise SourceChangedError(
                f"{self.name}: {file.path!r} has no bytes {start} to {end - 1} any more", hint=CHANGED_HINT
            )
        raise self._refusal(status, file.path)

    def _refusal(self, status: int, path: str) -> SourceError:
        return _REFUSALS[status](
            self.name, f"is in {checksums.NAME}, but the server answers HTTP {status}", file=path
        )

    def _url(self, path: str) -> str:
        return f"{self._base}/{quote(path, safe='/')}"
