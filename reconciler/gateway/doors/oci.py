"""The door for clients of OCI registries: pulls of ModelPack artifacts, and of plain images.

`NAME:REVISION` is the artifact, `image/NAME:REVISION` the image with the files below /models. A tag has no
`+`, so build metadata follows a `_`. Source: OCI distribution specification 1.1, "Pull", "Content discovery".
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import quote, urlencode

from reconciler.gateway.doors.image import TarLayer, image_artifact, image_layers
from reconciler.gateway.doors.interface import (
    DoorAnswer,
    DoorContent,
    DoorRequest,
    json_response,
)
from reconciler.gateway.doors.modelpack import MANIFEST_TYPE, Artifact, Blob, model_artifact, oci_digest
from reconciler.gateway.doors.referrers import (
    BUNDLE_TYPE,
    INDEX_TYPE,
    FindSignatures,
    SignatureArtifact,
    referrers_index,
    signature_artifacts,
)
from reconciler.gateway.doors.registry import (
    DIGEST,
    BlobBook,
    BlobContent,
    LayerBlob,
    RegistryPath,
    UnknownBlobError,
    blob_response,
    error_response,
    file_blobs,
    manifest_response,
    need_token,
    parse_digest,
    parse_registry_path,
)
from reconciler.gateway.releases import Missing, ReleaseMissingError, ReleaseRefusedError, ServedRelease
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.responses import GatewayResponse
from reconciler.index.model import Model

_IMAGE = "image/"
_KEPT = 256  # manifests that are remembered
_PAGE = 1000
_CODES = {Missing.MODEL: "NAME_UNKNOWN", Missing.REVISION: "MANIFEST_UNKNOWN", Missing.FILE: "BLOB_UNKNOWN"}


class OciDoor:
    """The registry over the releases in `content`; `find_signatures` returns what refers to a version."""

    name = "oci"

    def __init__(self, content: DoorContent, find_signatures: FindSignatures = lambda _: ()) -> None:
        self._content = content
        self._find_signatures = find_signatures
        self._book = BlobBook(content, self._blobs)
        self._manifests = BlobBook(content, self._manifest_blobs, kept=_KEPT)
        self._lock = threading.Lock()
        self._artifacts: OrderedDict[tuple[str, str, str], Artifact] = OrderedDict()
        self._subjects: dict[tuple[str, str], ServedRelease] = {}  # versions by the digest of their manifest

    def recognizes(self, request: DoorRequest) -> bool:
        """Return whether a path is below /v2."""
        return request.segments[:1] == ("v2",)

    def answer(self, request: DoorRequest) -> DoorAnswer:
        """Return the response. Raises RequestRefusedError, BlockUnavailableError, DataError."""
        if request.method not in ("GET", "HEAD"):
            raise RequestRefusedError(405, "nothing can be written here", {"Allow": "GET, HEAD"})
        if len(request.segments) == 1:
            return DoorAnswer(self._ping(request))
        path = parse_registry_path(request.segments)
        model, is_image = self._model(path.name)
        if not self._content.allowed(model, request):
            raise need_token(model)
        return DoorAnswer(self._respond(model, path, request, is_image=is_image), model.name)

    def refuse(self, refusal: RequestRefusedError, request: DoorRequest) -> GatewayResponse:
        """Return a refusal with its error code."""
        if isinstance(refusal, ReleaseMissingError):
            code = _CODES[refusal.what]
        elif isinstance(refusal, ReleaseRefusedError):
            code = "DENIED"
        elif refusal.status == 401:
            code = "UNAUTHORIZED"
        elif refusal.status == 400 and "blobs" in request.segments:
            code = "DIGEST_INVALID"
        else:
            code = {405: "UNSUPPORTED", 429: "TOOMANYREQUESTS"}.get(refusal.status, "UNKNOWN")
        return error_response(refusal, code)

    def usage(self, address: str) -> str:
        """Return the line that pulls a model."""
        scheme, _, host = address.partition("://")
        plain = "--plain-http " if scheme == "http" else ""
        name = next((model.name for model in self._content.view.models()), "MODEL")
        return f"oras pull {plain}{host}/{name.lower()}:latest"

    def _ping(self, request: DoorRequest) -> GatewayResponse:
        if self._content.access.rules and "authorization" not in request.headers:
            raise RequestRefusedError(
                401, "some models need a token", {"WWW-Authenticate": 'Basic realm="reconcile"'}
            )
        return json_response({}, {"Docker-Distribution-Api-Version": "registry/2.0"})

    def _model(self, name: str) -> tuple[Model, bool]:
        """Return the model of a name, and whether it is asked for as an image."""
        try:
            return self._content.view.model(name), False
        except ReleaseMissingError:
            if not name.startswith(_IMAGE):
                raise
        return self._content.view.model(name.removeprefix(_IMAGE)), True

    def _respond(
        self, model: Model, path: RegistryPath, request: DoorRequest, *, is_image: bool
    ) -> GatewayResponse:
        if path.action == "tags":
            if path.reference != "list":
                raise ReleaseMissingError(Missing.FILE, "only tags/list is there")
            return self._tags(model, path.name, request)
        if path.action == "referrers":
            return self._referrers(model, parse_digest(path.reference), request)
        if path.action == "blobs":
            digest = parse_digest(path.reference)
            return blob_response(self._content, self._book.find(model, digest), digest, request, {})
        return self._manifest(model, path.reference, request, is_image=is_image)

    def _manifest(
        self, model: Model, reference: str, request: DoorRequest, *, is_image: bool
    ) -> GatewayResponse:
        accept = request.headers.get("accept", "*/*")
        if not any(kind in accept for kind in (MANIFEST_TYPE, "*/*", "application/*")):
            raise ReleaseMissingError(
                Missing.REVISION, f"the manifest is {MANIFEST_TYPE}, which the Accept header does not have"
            )
        if DIGEST.fullmatch(reference):
            return manifest_response(self._by_digest(model, reference), request)
        release = self._content.view.release(model, reference)
        return manifest_response(self._artifact(release, is_image=is_image).manifest, request)

    def _by_digest(self, model: Model, digest: str) -> Blob:
        """Return the manifest with a digest: of a version, its image made before, or a signature."""
        try:
            found = self._manifests.find(model, digest)
        except UnknownBlobError:
            raise ReleaseMissingError(Missing.REVISION, f"no manifest {digest} of {model.name}") from None
        assert isinstance(found, Blob)  # noqa: S101  manifests are made up
        return found

    def _referrers(self, model: Model, digest: str, request: DoorRequest) -> GatewayResponse:
        """Return the signatures of the version whose manifest has a digest; none for an unknown one."""
        kind = request.values.get("artifactType")
        release = self._subjects.get((model.name, digest))
        if release is None:
            with suppress(RequestRefusedError):
                self._manifests.find(model, digest)
            release = self._subjects.get((model.name, digest))
        found: list[SignatureArtifact] = []
        if release is not None and kind in (None, BUNDLE_TYPE):
            found = self._signatures(release, self._artifact(release, is_image=False).manifest)
        headers = {} if kind is None else {"OCI-Filters-Applied": "artifactType"}
        return json_response(referrers_index(found), headers, kind=INDEX_TYPE)

    def _signatures(self, release: ServedRelease, subject: Blob) -> list[SignatureArtifact]:
        found = signature_artifacts(subject, self._find_signatures(release.version))
        self._manifests.add(release, [(each.manifest.digest, each.manifest) for each in found])
        self._book.add(release, [blob for each in found for blob in each.blobs])
        return found

    def _artifact(self, release: ServedRelease, *, is_image: bool) -> Artifact:
        key = (release.version.model, release.version.version, f"{release.root} {is_image}")
        with self._lock:
            if (known := self._artifacts.get(key)) is not None:
                self._artifacts.move_to_end(key)
                return known
        files = list(self._content.files(release))
        if is_image:
            layers = image_layers(files)
            contents = [layer.content for layer in layers]
            digests = self._content.digests.digests(
                contents, self._content.reader, "the layers of this image"
            )
            artifact = image_artifact(release.version, layers, digests)
            self._book.add(release, _layer_blobs(layers, digests))
        else:
            artifact = model_artifact(release.version, files)
            self._book.add(release, file_blobs(files))
            self._subjects[release.version.model, artifact.manifest.digest] = release
        self._book.add(release, [(artifact.config.digest, artifact.config)])
        self._manifests.add(release, [(artifact.manifest.digest, artifact.manifest)])
        with self._lock:
            self._artifacts[key] = artifact
            while len(self._artifacts) > _KEPT:
                self._artifacts.popitem(last=False)
        return artifact

    def _manifest_blobs(self, release: ServedRelease) -> Iterator[tuple[str, BlobContent]]:
        """Yield the manifests of a version; that of its image only when its digests are known."""
        manifest = self._artifact(release, is_image=False).manifest
        yield manifest.digest, manifest
        for signature in self._signatures(release, manifest):
            yield signature.manifest.digest, signature.manifest
        if (made := self._known_image(release)) is not None:
            yield made[0].manifest.digest, made[0].manifest

    def _blobs(self, release: ServedRelease) -> Iterator[tuple[str, BlobContent]]:
        """Yield the blobs of a version; those of its image only when their digests are known."""
        yield from file_blobs(self._content.files(release))
        artifact = self._artifact(release, is_image=False)
        yield artifact.config.digest, artifact.config
        for signature in self._signatures(release, artifact.manifest):
            yield from signature.blobs
        if (made := self._known_image(release)) is not None:
            image, layers = made
            yield from layers
            yield image.config.digest, image.config

    def _known_image(
        self, release: ServedRelease
    ) -> tuple[Artifact, Sequence[tuple[str, BlobContent]]] | None:
        layers = image_layers(list(self._content.files(release)))
        digests = self._content.digests.known([layer.content for layer in layers])
        if digests is None:
            return None
        return image_artifact(release.version, layers, digests), list(_layer_blobs(layers, digests))

    def _tags(self, model: Model, name: str, request: DoorRequest) -> GatewayResponse:
        view = self._content.view
        found = {text.replace("+", "_") for text in view.listed(model)}
        branches = set(view.branches(model))
        if "main" in branches:
            branches = branches - ({"main"} - set(model.channels)) | {"latest"}
        tags = sorted(found | branches)
        values = request.values
        limit = int(values["n"]) if values.get("n", "").isdecimal() and len(values["n"]) < 7 else _PAGE
        start = next((i for i, tag in enumerate(tags) if tag > values.get("last", "")), len(tags))
        page = tags[start : start + limit]
        headers = {}
        if page and start + limit < len(tags):
            query = urlencode({"n": limit, "last": page[-1]})
            headers["Link"] = f'</v2/{quote(name)}/tags/list?{query}>; rel="next"'
        return json_response({"name": name, "tags": page}, headers)


def _layer_blobs(layers: Sequence[TarLayer], digests: Sequence[bytes]) -> Iterator[tuple[str, BlobContent]]:
    for layer, digest in zip(layers, digests, strict=True):
        yield oci_digest(digest), LayerBlob(layer, digest)
