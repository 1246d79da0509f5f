"""A Hugging Face repository at a commit as a source.

    GET /api/models/ID/revision/REVISION              what the repository and the revision are now
    GET /api/models/ID/tree/COMMIT?recursive=true     all files, by pages (Link: <...>; rel="next")
    GET /ID/resolve/COMMIT/PATH                       the bytes, mostly behind a redirect to storage

Large files are in Git LFS or Xet; `resolve` serves both over plain HTTP. A redirect to storage is an address
that is signed and expires: it is kept for the next range of the same file, and once it is denied, `resolve`
is asked again. Source: huggingface_hub 2.4.0, and huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.json_fields import JsonFields
from reconciler.net.address import Address
from reconciler.net.auth import Auth
from reconciler.net.errors import RequestError
from reconciler.net.response import Response, peer_fields
from reconciler.sources.http_reader import Answer, HttpReader
from reconciler.sources.http_span import HttpSpan
from reconciler.sources.hub import COMMIT, HubLocation, hub_address, hub_auth, parse_location
from reconciler.sources.interface import (
    FileListing,
    KnownDigests,
    ListedFile,
    SourceDefinition,
    SourceError,
    SourceMismatchError,
    SourceMissingError,
    SourceProtocolError,
    SourceRefusedError,
    SourceSpan,
    UpstreamState,
)
from reconciler.sources.listing import make_listing
from reconciler.sources.once import Once
from reconciler.sources.ranges import checked_range, range_headers, read_resuming

_PAGE_LIMIT = 32 << 20  # bytes of one page of a listing
_MAX_PAGES = 10_000
_REFUSALS = (401, 403, 404, 410, 451)
_EXPIRED = (400, 401, 403, 404, 410)  # what storage answers for an address that is no longer valid
_KEPT = 4096  # addresses of storage that are remembered
_RESOLVES = 3  # times that one read asks for the address of the bytes
_NEXT = re.compile(r'<([^<>]{1,4096})>\s*;[^<>,]*\brel="?next\b')
_SHA256 = re.compile(r"[0-9a-f]{64}")


def open_source(
    definition: SourceDefinition, location: str, *, root: Path, environ: Mapping[str, str]
) -> HuggingFaceSource:
    """Open a repository. Raises UsageError for an invalid location, address or variable."""
    del root
    return HuggingFaceSource(
        f"{definition.name}:{location}",
        parse_location(location),
        hub_address(definition, environ),
        hub_auth(definition, environ),
    )


class HuggingFaceSource:
    """The files of one repository at one commit. Also tracks its branches (`upstream`).

    `list` and `read` need a commit as the revision and raise UsageError for a branch or tag, which moves.
    """

    def __init__(self, name: str, location: HubLocation, address: Address, auth: Auth | None) -> None:
        self.name = name
        self._location = location
        self._base = address.text
        self._http = HttpReader(name, address, auth)
        self._listing = Once(self._list)
        self._lock = threading.Lock()
        self._stored: dict[str, str] = {}  # path -> address of storage

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
        """List the tree of the commit, page by page."""
        return self._listing.get()

    def upstream(self, revision: str) -> UpstreamState:
        """Return what `revision` is now, as the hub's information about the repository states it."""
        url = self._base + self._location.information(revision)
        answer = self._ask(url)
        fields = peer_fields(self.name, self._json(answer))
        try:
            commit = fields.text("sha")
            if not COMMIT.fullmatch(commit):
                raise fields.error("a commit", "sha")
            card = fields.at("cardData") if isinstance(fields.at("cardData").value, dict) else None
            tags = fields.texts("tags")
            licenses = [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
            return UpstreamState(
                repository=fields.text_or(self._location.repository, "id"),
                commit=commit,
                license=(card.words().get("license") if card else None) or "".join(licenses[:1]),
                library=fields.text_or("", "library_name"),
                tags=tags,
                private=fields.flag("private"),
                gated=fields.at("gated").value not in (None, False),
                disabled=fields.flag("disabled"),
            )
        except RequestError as error:
            raise self._http.source_error(error) from None

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """Iterate over a range of `file`, which is resumed when a connection breaks or an address expires."""
        start, end = checked_range(file, start, length)
        self._commit()
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
        self._commit()
        return self._span(file, start, end, once=True)

    # --- listing

    def _list(self) -> FileListing:
        commit = self._commit()
        location = f"{self._location.page[1:]}@{commit}"
        return make_listing(self.name, location, commit, self._files(), immutable=True)

    def _commit(self) -> str:
        revision = self._location.revision
        if not COMMIT.fullmatch(revision):
            raise UsageError(
                f"{self.name}: {revision!r} is a branch or a tag, which can move",
                hint="name a commit; `reconcile add` resolves a branch and writes its commit",
            )
        return revision

    def _files(self) -> Iterator[ListedFile]:
        url = f"{self._base}{self._location.api}/tree/{self._location.revision}?recursive=true&expand=false"
        seen = {url}
        for _ in range(_MAX_PAGES):
            answer = self._ask(url)
            self._check_commit(answer.headers, "")
            try:
                for entry in peer_fields(self.name, self._json(answer)).items():
                    if (file := self._file(entry)) is not None:
                        yield file
            except RequestError as error:
                raise self._http.source_error(error) from None
            found = _NEXT.search(answer.headers.get("link", ""))
            if found is None:
                return
            url = self._http.resolve(url, found[1])
            if not self._http.is_own(url):
                raise SourceRefusedError(
                    self.name,
                    "continues its listing at another host or port",
                    hint="the listing was not used, and no token was sent there",
                )
            if url in seen:
                raise SourceProtocolError(self.name, "repeats a page of its listing")
            seen.add(url)
        raise SourceProtocolError(self.name, f"has more than {_MAX_PAGES} pages in its listing")

    def _file(self, entry: JsonFields) -> ListedFile | None:
        """Return the file of one entry of a tree; None for a directory."""
        kind, path = entry.text("type"), entry.text("path")
        if kind == "directory":
            return None
        if kind != "file":
            raise SourceProtocolError(
                self.name, f"is listed as {self._http.shown(kind, 40)!r}, which is not a file", file=path
            )
        size, oid = entry.number("size"), entry.text("oid")
        if not COMMIT.fullmatch(oid):
            raise entry.error("a git object id", "oid")
        if not entry.has("lfs"):
            return ListedFile(path, size, KnownDigests(git_blob=bytes.fromhex(oid)))
        sha256 = entry.text("lfs", "oid").removeprefix("sha256:")
        if not _SHA256.fullmatch(sha256):
            raise entry.error("a SHA-256", "lfs", "oid")
        if entry.number("lfs", "size") != size:
            raise SourceProtocolError(self.name, "is listed with two sizes", file=path)
        digests = KnownDigests(sha256=bytes.fromhex(sha256), lfs_pointer=bytes.fromhex(oid))
        return ListedFile(path, size, digests)

    def _ask(self, url: str) -> Response:
        """Ask the API of the hub; any refusal becomes its typed error."""
        answer = self._http.request("GET", url, expect=(200, *_REFUSALS), limit=_PAGE_LIMIT)
        if answer.status != 200:
            raise self._refusal(answer.status, answer.headers, "")
        return answer

    def _json(self, answer: Response) -> object:
        try:
            return answer.json()
        except RequestError as error:
            raise self._http.source_error(error) from None

    # --- reading

    def _span(self, file: ListedFile, start: int, end: int, *, once: bool = False) -> HttpSpan:
        answer = self._located(file, start, end, once=once)
        return self._http.span(answer, file, start, end)

    def _located(self, file: ListedFile, start: int, end: int, *, once: bool) -> Answer:
        """Return an open answer with a range of `file`, at the address that is known, or else a new one."""
        headers = range_headers(file, start, end)
        expect = (200, 206, 412, 416, *_EXPIRED, *_REFUSALS)
        with self._lock:
            stored = self._stored.get(file.path)
        for attempt in range(_RESOLVES + 1):
            if stored is None and attempt == _RESOLVES:
                break
            url = stored or self._base + self._location.resolve(file.path)
            answer = self._http.open(url, headers=headers, expect=expect, file=file, once=once)
            self._check_hops(answer, file)
            if answer.body.status in (200, 206):
                self._remember(file.path, answer.url if answer.elsewhere else None)
                return answer
            answer.body.close()
            self._remember(file.path, None)
            if answer.body.status in (412, 416):
                raise SourceProtocolError(
                    self.name,
                    f"has no bytes {start} to {end - 1} (HTTP {answer.body.status}), in spite of its size "
                    f"of {file.size}",
                    file=file.path,
                )
            if not answer.elsewhere:
                raise self._refusal(answer.body.status, answer.body.headers, file.path)
            stored, status = None, answer.body.status
        kind = SourceMissingError if status in (404, 410) else SourceRefusedError
        raise kind(
            self.name,
            f"leads to storage that does not give it (HTTP {status}), also at a new address",
            file=file.path,
            hint="check the clock of this machine: addresses of storage expire",
        )

    def _remember(self, path: str, url: str | None) -> None:
        with self._lock:
            self._stored.pop(path, None)
            if url is not None:
                self._stored[path] = url
                while len(self._stored) > _KEPT:
                    del self._stored[next(iter(self._stored))]

    def _check_hops(self, answer: Answer, file: ListedFile) -> None:
        """Compare what the hub states about the bytes with the listing, before any of them is read."""
        own = [*answer.hops, *(() if answer.elsewhere else (answer.body.headers,))]
        try:
            for headers in own:
                self._check_commit(headers, file.path)
                size = headers.get("x-linked-size", "")
                if size.isascii() and size.isdigit() and int(size) != file.size:
                    raise SourceMismatchError(
                        self.name, file.path, f"has {size} bytes in storage instead of its {file.size}"
                    )
                etag = headers.get("x-linked-etag", "").removeprefix("W/").strip('"')
                wanted = file.digests.sha256
                if wanted is not None and _SHA256.fullmatch(etag) and bytes.fromhex(etag) != wanted:
                    raise SourceMismatchError(
                        self.name,
                        file.path,
                        f"has the SHA-256 {etag} in storage; the commit has {wanted.hex()}",
                    )
        except BaseException:
            answer.body.close()
            raise

    def _check_commit(self, headers: Mapping[str, str], path: str) -> None:
        commit = headers.get("x-repo-commit", "")
        if commit and commit != self._location.revision:
            raise SourceProtocolError(
                self.name, f"answers with the commit {self._http.shown(commit, 60)!r}", file=path
            )

    def _refusal(self, status: int, headers: Mapping[str, str], path: str) -> SourceError:
        """Return the error for a refusal of the hub itself, by its error code."""
        code = headers.get("x-error-code", "")
        page = self._base + self._location.page
        if code == "GatedRepo":
            hint = f"accept its terms at {page}, and set HF_TOKEN to a token of that account"
            return SourceRefusedError(self.name, f"is gated (HTTP {status})", hint=hint)
        if code == "RevisionNotFound":
            return SourceMissingError(
                self.name,
                f"there is no such revision (HTTP {status})",
                hint="the commit was rewritten, or was never there"
                if COMMIT.fullmatch(self._location.revision)
                else f"check the name of the branch or tag at {page}",
            )
        if code == "EntryNotFound" and path:
            return SourceMissingError(
                self.name, f"was withdrawn, or was never there (HTTP {status})", file=path
            )
        if "disabled" in headers.get("x-error-message", "").lower():
            return SourceRefusedError(self.name, f"is disabled by the hub (HTTP {status})")
        if code == "RepoNotFound" or (status == 401 and not self._http.has_secret):
            hint = f"check the name at {page}"
            if not self._http.has_secret:
                hint += "; for a private repository, set HF_TOKEN, or token_env in sources.yaml"
            kind = SourceMissingError if status == 404 else SourceRefusedError
            return kind(
                self.name, f"there is no such repository, or it is private (HTTP {status})", hint=hint
            )
        if status in (401, 403, 451):
            reason = self._http.shown(headers.get("x-error-message", ""), 120)
            hint = "check that the token is valid, and may read this repository"
            message = f"denies access (HTTP {status}){f': {reason}' if reason else ''}"
            return SourceRefusedError(self.name, message, file=path, hint=hint)
        return SourceMissingError(self.name, f"does not exist (HTTP {status})", file=path)
