"""What the doors of registries share: names, digests, blobs, and errors of the OCI distribution protocol.

A blob belongs to the model under whose name it is asked for: the digest of another model's file is unknown
there. Source: OCI distribution specification 1.1, "Pull" and "Error codes".
"""

from __future__ import annotations

import re
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
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
_MAX_REFERENCE = 128  # characters of a tag
_AGAIN_SECONDS = 30.0  # after which a version that could not be read is tried again
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
    if len(below[-1]) > _MAX_REFERENCE and ":" not in below[-1]:
        raise ReleaseMissingError(Missing.REVISION, f"no tag has more than {_MAX_REFERENCE} characters")
    return RegistryPath("/".join(below[:-2]), below[-2], below[-1])


def parse_digest(text: str) -> str:
    """Return a digest. Raises RequestRefusedError (400) when it is none."""
    if not DIGEST.fullmatch(text):
        raise RequestRefusedError(400, "a digest is sha256: and 64 hex digits in lower case")
    return text


class BlobBook:
    """Which blob a digest means under the name of a model: one of the versions that are in the index now.

    `contents` returns the blobs of one version. The last `kept` blobs that were asked for are remembered, and
    eight bytes for each other one, so that an unknown digest reads each version once. Lists of digests are
    claims of publishers: when two versions have other bytes for one digest, the bytes decide. Usable from
    several threads; none waits while another one reads.
    """

    def __init__(
        self,
        content: DoorContent,
        contents: Callable[[ServedRelease], Iterable[tuple[str, BlobContent]]],
        *,
        kept: int = 16_384,
    ) -> None:
        self._content = content
        self._contents = contents
        self._kept = kept
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, str], tuple[ServedRelease, BlobContent]] = OrderedDict()
        self._disputed: set[tuple[str, str]] = set()
        self._prefixes: dict[_VersionKey, array[int]] = {}
        self._unreadable: dict[_VersionKey, float] = {}

    def add(self, release: ServedRelease, blobs: Iterable[tuple[str, BlobContent]]) -> None:
        """Remember blobs of a version."""
        with self._lock:
            prefixes = self._prefixes.get(_key_of(release))
            for digest, blob in blobs:
                key = release.version.model, digest
                if prefixes is not None and _prefix(digest) not in prefixes:
                    prefixes.append(_prefix(digest))
                before = self._found.get(key)
                if key in self._disputed:
                    continue
                if before is not None and not _is_same(before[1], blob):
                    self._disputed.add(key)
                    del self._found[key]
                    continue
                self._found[key] = release, blob
                self._found.move_to_end(key)
            while len(self._found) > self._kept:
                self._found.popitem(last=False)

    def find(self, model: Model, digest: str) -> BlobContent:
        """Return the blob.

        Raises UnknownBlobError, and RequestRefusedError (503) while it is found out whose bytes have a
        disputed digest.
        """
        key = model.name, digest
        with self._lock:
            known, disputed = self._found.get(key), key in self._disputed
        if known is not None and _is_current(model, known[0]):
            return known[1]
        for release in _releases(model):
            blob = self._read(release, digest)
            if blob is None or (disputed and not self._has_digest(blob, digest)):
                continue
            with self._lock:
                self._found[key] = release, blob
            return blob
        raise UnknownBlobError(digest)

    def _read(self, release: ServedRelease, digest: str) -> BlobContent | None:
        """Return the blob of one version; None when it has none, or cannot be read now."""
        key = _key_of(release)
        prefixes = self._prefixes.get(key)
        if prefixes is not None and _prefix(digest) not in prefixes:
            return None
        if self._unreadable.get(key, 0.0) > time.monotonic():
            return None
        try:
            blobs = dict(self._contents(release))
        except (ReconcilerError, RequestRefusedError):  # not here, or damaged: perhaps later
            self._unreadable[key] = time.monotonic() + _AGAIN_SECONDS
            return None
        with self._lock:
            self._prefixes[key] = array("Q", map(_prefix, blobs))
        return blobs.get(digest)

    def _has_digest(self, blob: BlobContent, digest: str) -> bool:
        if not isinstance(blob, ReleaseFile):
            return True  # its digest is computed here
        try:
            return self._content.hashed(blob).hex() == digest.removeprefix("sha256:")
        except ReconcilerError:
            return False


_VersionKey = tuple[str, str, Cid]


def _key_of(release: ServedRelease) -> _VersionKey:
    return release.version.model, release.version.version, release.root


def _prefix(digest: str) -> int:
    return int(digest.removeprefix("sha256:")[:16], 16)


def _is_same(first: BlobContent, second: BlobContent) -> bool:
    """Return whether two blobs with one digest have the same bytes, as far as their CIDs say."""
    if isinstance(first, ReleaseFile) and isinstance(second, ReleaseFile):
        return first.address == second.address
    return True  # the digest of at least one was computed here


def _releases(model: Model) -> Iterator[ServedRelease]:
    for version in model.versions.values():
        if version.cid is not None:
            yield ServedRelease(version, version.cid)


def _is_current(model: Model, release: ServedRelease) -> bool:
    version = model.versions.get(release.version.version)
    return version is not None and version.cid == release.root


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
        return send_spans(request, blob.sha256, layer.size, lambda span: layer.read(span, read), common)
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
