"""What a door is: a request that it recognizes, the releases and files it answers from, and its refusals."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol
from urllib.parse import parse_qsl, unquote_to_bytes

from reconciler.gateway.background_digests import BackgroundDigests
from reconciler.gateway.bodies import file_bytes
from reconciler.gateway.release_files import FileTables, ReleaseFile, ReleaseFiles, open_file, unhashed_file
from reconciler.gateway.releases import Missing, ReleaseMissingError, ReleaseView, ServedRelease
from reconciler.gateway.request import RequestRefusedError, conditions_of
from reconciler.gateway.responses import GatewayResponse, OpenSpan, with_ranges
from reconciler.gateway.stores import MissingBlockError, ReadBlock
from reconciler.index.model import Model
from reconciler.net.auth import Secret

MAX_BODY = 1 << 20  #: bytes of the largest request body that is read
MAX_PATH = 8192  #: characters of a path, percent signs included
_MAX_FIELDS = 10_000


@dataclass(frozen=True, slots=True)
class DoorRequest:
    """A request for a door.

    `segments` are the parts of the path, each decoded once. Header names are lower case. `address` is that of
    this server as the client wrote it, such as http://127.0.0.1:8080.
    """

    method: str
    path: str
    segments: tuple[str, ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    body: bytes = b""
    address: str = ""

    @property
    def values(self) -> Mapping[str, str]:
        """The first value of each name in the query. Raises RequestRefusedError (400)."""
        found: dict[str, str] = {}
        for name, value in fields(self.query):
            found.setdefault(name, value)
        return found


class Door(Protocol):
    """One protocol. Its methods are called from several threads."""

    @property
    def name(self) -> str:
        """The name in `--doors` and in /metrics."""
        ...

    def recognizes(self, request: DoorRequest) -> bool:
        """Return whether a request is for this door."""
        ...

    def answer(self, request: DoorRequest) -> DoorAnswer:
        """Return the response. Raises RequestRefusedError, and what reading blocks raises."""
        ...

    def refuse(self, refusal: RequestRefusedError, request: DoorRequest) -> GatewayResponse:
        """Return the response for a refusal, in the form that the clients of this door show to people."""
        ...

    def usage(self, address: str) -> str:
        """Return the line that a user pastes to use this door at `address`."""
        ...


@dataclass(frozen=True, slots=True)
class DoorAnswer:
    """A response, and the model that it is about ("" for none), for /metrics."""

    response: GatewayResponse
    model: str = ""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """A `token` that is needed for the models whose names match one of the globs `models`."""

    models: tuple[str, ...]
    token: Secret


@dataclass(frozen=True, slots=True)
class DoorAccess:
    """The rules of a server. A model that no rule matches may be read without a token."""

    rules: Sequence[AccessRule] = ()

    def knows(self, token: str | None) -> bool:
        """Return whether `token` is one of the rules. Takes the same time for every token."""
        given = (token or "").encode()
        return sum(hmac.compare_digest(rule.token.reveal().encode(), given) for rule in self.rules) > 0

    def allows(self, model: str, token: str | None) -> bool:
        """Return whether a request with `token` may read `model`. Takes the same time for every token."""
        rules = [rule for rule in self.rules if any(fnmatchcase(model, glob) for glob in rule.models)]
        return not rules or DoorAccess(rules).knows(token)


@dataclass(frozen=True, slots=True)
class DoorContent:
    """What every door answers from: the releases, their files, their blocks, and who may read them.

    `reader` returns a function that reads the blocks of one body.
    """

    view: ReleaseView
    tables: FileTables
    reader: Callable[[], ReadBlock]
    access: DoorAccess = field(default_factory=DoorAccess)
    digests: BackgroundDigests = field(default_factory=lambda: BackgroundDigests(None))

    def allowed(self, model: Model, request: DoorRequest) -> bool:
        """Return whether the request may read `model`."""
        return self.access.allows(model.name, bearer_token(request.headers))

    def files(self, release: ServedRelease) -> ReleaseFiles:
        """Return the files of a release.

        Raises ReleaseMissingError when its bytes are not here, BlockUnavailableError, DataError.
        """
        try:
            return self.tables.files(release.root)
        except MissingBlockError:
            raise ReleaseMissingError(
                Missing.REVISION, f"the bytes of {release.version.ref} are not in the stores of this server"
            ) from None

    def hashed(self, file: ReleaseFile) -> bytes:
        """Return the SHA-256 of the bytes of a file, whatever SHA256SUMS says.

        Raises RequestRefusedError (503) while they are being hashed, and what reading a block raises.
        """
        content = unhashed_file(file.address, file.size)
        return self.digests.digests([content], self.reader, "files with a disputed digest")[0]

    def send(self, file: ReleaseFile, request: DoorRequest, headers: Mapping[str, str]) -> GatewayResponse:
        """Return the bytes of a file, or the requested ranges of it; its ETag is its SHA-256.

        Raises RequestRefusedError (416), and what reading its first block raises.
        """
        read = self.reader()
        node = open_file(file, read)
        return send_spans(request, file.sha256, file.size, lambda span: file_bytes(node, span, read), headers)


def send_spans(
    request: DoorRequest, digest: bytes, size: int, open_span: OpenSpan, headers: Mapping[str, str]
) -> GatewayResponse:
    """Return `size` bytes with this SHA-256, or the requested ranges. Raises RequestRefusedError (416)."""
    common = {"Etag": f'"{digest.hex()}"', "Content-Type": "application/octet-stream", **headers}
    return with_ranges(conditions_of(request.headers), common, size, open_span)


def split_path(path: str) -> tuple[str, ...]:
    """Split a percent-encoded path, and decode each part once.

    Raises RequestRefusedError for a part that is empty, `.`, `..`, not UTF-8, or contains NUL.
    """
    if len(path) > MAX_PATH:
        raise RequestRefusedError(414, "the path is too long")
    found = []
    for part in path.removeprefix("/").split("/"):
        try:
            name = unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            raise RequestRefusedError(400, "the path is not UTF-8") from None
        if name in ("", ".", "..") or "\0" in name:
            raise RequestRefusedError(400, "the path has an invalid segment")
        found.append(name)
    return tuple(found)


def file_path(segments: Sequence[str]) -> str:
    """Return the path of a file below a release. Raises RequestRefusedError for an encoded slash."""
    if any("/" in part for part in segments):
        raise RequestRefusedError(400, "the path has an invalid segment")
    return "/".join(segments)


def fields(text: str) -> list[tuple[str, str]]:
    """Parse a query or a form. Raises RequestRefusedError (400)."""
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise RequestRefusedError(400, "too many fields") from None


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """Return the token of `Authorization: Bearer …`, or the password of `Basic …`; None without one."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(token.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return None


def json_response(
    document: object, headers: Mapping[str, str] | None = None, *, kind: str = "application/json"
) -> GatewayResponse:
    """Return a JSON document as a response."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return GatewayResponse(200, {"Content-Type": kind, **(headers or {})}, iter((body,)), len(body))
