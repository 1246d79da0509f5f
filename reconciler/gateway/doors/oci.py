"""The door for clients of OCI registries: pulls of ModelPack artifacts, and of plain images.

`NAME:REVISION` is the artifact, `image/NAME:REVISION` the image with the files below /models. A tag has no
`+`, so build metadata follows a `_`. Source: OCI distribution specification 1.1, "Pull", "Content discovery".
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from urllib.parse import quote, urlencode

from reconciler.gateway.doors.image import TarLayer, image_artifact, image_layers
from reconciler.gateway.doors.interface import (
    DoorAnswer,
    DoorContent,
    DoorRequest,
    json_response,
)
from reconciler.gateway.doors.layer_digests import LayerDigests
from reconciler.gateway.doors.modelpack import MANIFEST_TYPE, Artifact, model_artifact
from reconciler.gateway.doors.registry import (
    DIGEST,
    BlobBook,
    BlobContent,
    LayerBlob,
    RegistryPath,
    blob_response,
    error_response,
    file_blobs,
    manifest_response,
    need_token,
    parse_digest,
    parse_registry_path,
)
from reconciler.gateway.releases import Missing, ReleaseMissingError, ServedRelease
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.responses import GatewayResponse
from reconciler.index.model import Model

_IMAGE = "image/"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_KEPT = 256  # manifests that are remembered
_PAGE = 1000
_CODES = {Missing.MODEL: "NAME_UNKNOWN", Missing.REVISION: "MANIFEST_UNKNOWN", Missing.FILE: "BLOB_UNKNOWN"}


class OciDoor:
    """The registry over the releases in `content`; `digests` remembers those of tar layers."""

    name = "oci"

    def __init__(self, content: DoorContent, digests: LayerDigests) -> None:
        self._content = content
        self._digests = digests
        self._book = BlobBook(content, self._blobs)
        self._lock = threading.Lock()
        self._artifacts: OrderedDict[tuple[str, str, str], Artifact] = OrderedDict()

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
            parse_digest(path.reference)
            index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": []}
            return json_response(index, kind=_INDEX_TYPE)
        if path.action == "blobs":
            digest = parse_digest(path.reference)
            return blob_response(self._content, self._book.find(model, digest), digest, request, {})
        return self._manifest(model, path.reference, request, is_image=is_image)

    def _manifest(
        self, model: Model, reference: str, request: DoorRequest, *, is_image: bool
    ) -> GatewayResponse:
        accept = request.headers.get("accept", "*/*")
        if MANIFEST_TYPE not in accept and "*/*" not in accept:
            raise ReleaseMissingError(
                Missing.REVISION, f"the manifest is {MANIFEST_TYPE}, which the Accept header does not have"
            )
        if DIGEST.fullmatch(reference):
            return manifest_response(self._by_digest(model, reference).manifest, request)
        release = self._content.view.release(model, reference)
        artifact = self._artifact(release, is_image=is_image)
        return manifest_response(artifact.manifest, request)

    def _by_digest(self, model: Model, digest: str) -> Artifact:
        """Return the manifest with a digest, of any version, as an artifact or as an image made before."""
        with self._lock:
            for (name, _, _), artifact in self._artifacts.items():
                if name == model.name and artifact.manifest.digest == digest:
                    return artifact
        for version in model.versions.values():
            if version.cid is None:
                continue
            try:
                artifact = self._artifact(ServedRelease(version, version.cid), is_image=False)
            except ReleaseMissingError:  # its bytes are not here
                continue
            if artifact.manifest.digest == digest:
                return artifact
        raise ReleaseMissingError(Missing.REVISION, f"no manifest {digest} of {model.name}")

    def _artifact(self, release: ServedRelease, *, is_image: bool) -> Artifact:
        key = (release.version.model, release.version.version, f"{release.root} {is_image}")
        with self._lock:
            if (known := self._artifacts.get(key)) is not None:
                self._artifacts.move_to_end(key)
                return known
        files = list(self._content.files(release))
        if is_image:
            layers = image_layers(files)
            digests = self._digests.digests(layers, self._content.reader)
            artifact = image_artifact(release.version, layers, digests)
            self._book.add(release, _layer_blobs(layers, digests))
        else:
            artifact = model_artifact(release.version, files)
            self._book.add(release, file_blobs(files))
        self._book.add(release, [(artifact.config.digest, artifact.config)])
        with self._lock:
            self._artifacts[key] = artifact
            while len(self._artifacts) > _KEPT:
                self._artifacts.popitem(last=False)
        return artifact

    def _blobs(self, release: ServedRelease) -> Iterator[tuple[str, BlobContent]]:
        """Yield the blobs of a version; those of its image only when their digests are known."""
        files = list(self._content.files(release))
        yield from file_blobs(files)
        config = model_artifact(release.version, files).config
        yield config.digest, config
        layers = image_layers(files)
        digests = self._digests.known(layers)
        if digests is not None:
            yield from _layer_blobs(layers, digests)
            image = image_artifact(release.version, layers, digests).config
            yield image.digest, image

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


def _layer_blobs(layers: list[TarLayer], digests: list[str]) -> Iterator[tuple[str, BlobContent]]:
    for layer, digest in zip(layers, digests, strict=True):
        yield digest, LayerBlob(layer, bytes.fromhex(digest.removeprefix("sha256:")))
