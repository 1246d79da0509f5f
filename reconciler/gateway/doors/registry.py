"""What the doors of registries share: names, digests, blobs, and errors of the OCI distribution protocol.

A blob belongs to the model under whose name it is asked for: the digest of another model's file is unknown
there. Source: OCI distribution specification 1.1, "Pull" and "Error codes".
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reconciler.content.cid import Cid
from reconciler.errors import ReconcilerError
from reconciler.gateway.doors.image import TarLayer
from reconciler.gateway.doors.interface import DoorContent, DoorRequest, json_response, send_spans
from reconciler.gateway.doors.modelpack import Blob, digest_of
from reconciler.gateway.release_files import ReleaseFile
from reconciler.gateway.releases import Missing, ReleaseMissingError, ServedRelease
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.responses import GatewayResponse
from reconciler.index.model import Model

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ACTIONS = ("manifests", "blobs", "tags", "referrers")
_IMMUTABLE = "public, max-age=29030400, immutable"


class UnknownBlobError(ReleaseMissingError):
    """A digest that is unknown under a name."""

    def __init__(self, digest: str) -> None:
        super().__init__(Missing.FILE, f"no blob {digest} under this name")


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A tar layer with its digest."""

    layer: TarLayer
    sha256: bytes


BlobContent = Blob | ReleaseFile | LayerBlob


@dataclass(frozen=True, slots=True)
class RegistryPath:
    """A path below /v2: the name as written, what is asked for, and the tag or the digest."""

    name: str
    action: str
    reference: str


def parse_registry_path(segments: tuple[str, ...]) -> RegistryPath:
    """Parse a path below /v2. Raises ReleaseMissingError for an unknown one."""
    below = segments[1:]
    if len(below) < 3 or below[-2] not in _ACTIONS:
        raise ReleaseMissingError(Missing.FILE, "this server answers pulls only")
    return RegistryPath("/".join(below[:-2]), below[-2], below[-1])


def parse_digest(text: str) -> str:
    """Return a digest. Raises RequestRefusedError (400) when it is none."""
    if not DIGEST.fullmatch(text):
        raise RequestRefusedError(400, "a digest is sha256: and 64 hex digits in lower case")
    return text


class BlobBook:
    """Which blob a digest means under the name of a model.

    `contents` returns the blobs of one version. When a digest is unknown, the versions that were not read yet
    are read, each once. Usable from several threads.
    """

    def __init__(
        self,
        content: DoorContent,
        contents: Callable[[ServedRelease], Iterable[tuple[str, BlobContent]]],
    ) -> None:
        self._content = content
        self._contents = contents
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, BlobContent]] = {}
        self._read: dict[str, set[Cid]] = {}

    def add(self, release: ServedRelease, blobs: Iterable[tuple[str, BlobContent]]) -> None:
        """Remember the blobs of a version."""
        with self._lock:
            self._known.setdefault(release.version.model, {}).update(blobs)

    def find(self, model: Model, digest: str) -> BlobContent:
        """Return the blob. Raises UnknownBlobError."""
        with self._lock:
            known = self._known.setdefault(model.name, {})
            if (found := known.get(digest)) is not None:
                return found
            read = self._read.setdefault(model.name, set())
            for version in model.versions.values():
                if version.cid is None or version.cid in read:
                    continue
                try:
                    known.update(self._contents(ServedRelease(version, version.cid)))
                except (ReconcilerError, RequestRefusedError):  # not here, or damaged: perhaps later
                    continue
                read.add(version.cid)
                if (found := known.get(digest)) is not None:
                    return found
        raise UnknownBlobError(digest)


def file_blobs(files: Iterable[ReleaseFile]) -> Iterable[tuple[str, BlobContent]]:
    """Return the files of a version as blobs."""
    return ((digest_of(file), file) for file in files)


def blob_response(
    content: DoorContent, blob: BlobContent, digest: str, request: DoorRequest, headers: Mapping[str, str]
) -> GatewayResponse:
    """Return a blob, or the requested ranges of it.

    Raises RequestRefusedError (416), and what reading its first block raises.
    """
    common = {"Docker-Content-Digest": digest, "Cache-Control": _IMMUTABLE, **headers}
    if isinstance(blob, ReleaseFile):
        return content.send(blob, request, common)
    sha256 = bytes.fromhex(digest.removeprefix("sha256:"))
    if isinstance(blob, LayerBlob):
        layer, read = blob.layer, content.reader()
        return send_spans(request, sha256, layer.size, lambda span: layer.read(span, read), common)
    data = memoryview(blob.data)
    return send_spans(request, sha256, len(data), lambda span: iter((data[span.start : span.stop],)), common)


def manifest_response(manifest: Blob, request: DoorRequest) -> GatewayResponse:
    """Return a manifest with its media type and digest."""
    headers = {
        "Content-Type": manifest.media_type,
        "Docker-Content-Digest": manifest.digest,
        "Etag": f'"{manifest.digest}"',
        "Docker-Distribution-Api-Version": "registry/2.0",
        "Cache-Control": "no-cache",
    }
    if request.headers.get("if-none-match") == headers["Etag"]:
        return GatewayResponse(304, headers)
    return GatewayResponse(200, headers, iter((manifest.data,)), len(manifest.data))


def error_response(refusal: RequestRefusedError, code: str) -> GatewayResponse:
    """Return a refusal as the JSON that clients of registries show."""
    document = {"errors": [{"code": code, "message": refusal.message}]}
    response = json_response(document, {"Cache-Control": "no-store"} | refusal.headers)
    return GatewayResponse(refusal.status, response.headers, response.body, response.size)


def need_token(model: Model) -> RequestRefusedError:
    """Return the refusal of a request that may not read `model`."""
    return RequestRefusedError(
        401, f"{model.name} needs a token", {"WWW-Authenticate": 'Basic realm="reconcile"'}
    )
