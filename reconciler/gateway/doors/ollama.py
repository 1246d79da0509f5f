"""The door for `ollama pull`: one GGUF model of a version, with what lies beside it.

`template`, `system` and `params` are the files of that name, as in repositories on the Hub, and the licence
is a file such as LICENSE. What the config says comes from the GGUF header. A version with several
quantisations is pulled as `NAME:REVISION-Q4_K_M`, or as `NAME:Q4_K_M` for the highest version; without one it
is Q4_K_M, else the first by name. A model in several files cannot be pulled: ollama loads one file.

The client needs a `Location` on every GET of a blob, asks that address for ranges without its token, and
looks at no status, so the address is signed and errors have no body. Source: ollama `server/download.go`,
`server/images.go` and `manifest/`, read and tried with a build of 2026-08.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from reconciler.content.gguf import (
    FILE_TYPES,
    GgufEndError,
    GgufTooLongError,
    MalformedGgufError,
    parse_gguf,
)
from reconciler.gateway.bodies import file_bytes
from reconciler.gateway.doors.interface import DoorAnswer, DoorContent, DoorRequest, json_response
from reconciler.gateway.doors.modelpack import Blob, digest_of, json_blob
from reconciler.gateway.doors.registry import (
    BlobBook,
    BlobContent,
    RegistryPath,
    blob_response,
    error_response,
    manifest_response,
    need_token,
    parse_digest,
    parse_registry_path,
)
from reconciler.gateway.release_files import ReleaseFile, ReleaseFiles, open_file
from reconciler.gateway.releases import Missing, ReleaseMissingError, ServedRelease
from reconciler.gateway.request import RequestRefusedError, Span
from reconciler.gateway.responses import GatewayResponse
from reconciler.gateway.written_cid import WrittenCid
from reconciler.index.model import Model

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.ollama.image."
_LIBRARY = "library/"
_USER_AGENT = "ollama/"
_SIGNED_SECONDS = 12 * 3600  # that a signed address is good for: the time of a long download
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
_QUANTISATION = re.compile(r"(?i)(?:^|[-_.])((?:IQ|TQ|Q)\d\w*|F16|F32|BF16|MXFP4)$")
_PREFERRED = "Q4_K_M"
_KEPT = 1024  # summaries of GGUF files that are remembered
_SIDE_LAYERS = ("template", "system", "params", "license")
_LICENCES = ("license", "licence", "copying")


@dataclass(frozen=True, slots=True)
class _Quantisation:
    """One GGUF model of a version: its files in order, more than one when it is split."""

    name: str
    files: tuple[ReleaseFile, ...]


@dataclass(frozen=True, slots=True)
class _Summary:
    """What the config says of a GGUF file, without its tensors, of which there may be very many."""

    architecture: str | None
    file_type: int | None
    parameters: int


class OllamaDoor:
    """The registry for ollama over the releases in `content`."""

    name = "ollama"

    def __init__(self, content: DoorContent) -> None:
        self._content = content
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._book = BlobBook(content, self._blobs)
        self._summaries: OrderedDict[WrittenCid, _Summary | None] = OrderedDict()

    def recognizes(self, request: DoorRequest) -> bool:
        """Return whether a request below /v2 is from ollama, or for an address that this door has signed."""
        return request.segments[:1] == ("v2",) and (
            request.headers.get("user-agent", "").startswith(_USER_AGENT)
            or "signature=" in request.query
            or request.headers.get("accept", "") == MANIFEST_TYPE
        )

    def answer(self, request: DoorRequest) -> DoorAnswer:
        """Return the response. Raises RequestRefusedError, BlockUnavailableError, DataError."""
        if request.method not in ("GET", "HEAD"):
            raise RequestRefusedError(405, "nothing can be written here", {"Allow": "GET, HEAD"})
        if len(request.segments) == 1:
            return DoorAnswer(json_response({}))
        path = parse_registry_path(request.segments)
        model = self._content.view.model(path.name.removeprefix(_LIBRARY))
        if not self._is_signed(path, request) and not self._content.allowed(model, request):
            raise need_token(model)
        if path.action == "manifests":
            return DoorAnswer(self._manifest(model, path.reference, request), model.name)
        if path.action != "blobs":
            raise ReleaseMissingError(Missing.FILE, "this door has manifests and blobs only")
        digest = parse_digest(path.reference)
        headers = {"Location": self._signed(path)}
        blob = self._book.find(model, digest)
        return DoorAnswer(blob_response(self._content, blob, digest, request, headers), model.name)

    def refuse(self, refusal: RequestRefusedError, request: DoorRequest) -> GatewayResponse:
        """Return a refusal; that of a blob has no body, which the client would store as a part of it."""
        if "blobs" in request.segments:
            return GatewayResponse(refusal.status, {"Cache-Control": "no-store"} | refusal.headers)
        code = "MANIFEST_UNKNOWN" if refusal.status == 404 else "UNKNOWN"
        return error_response(refusal, code)

    def usage(self, address: str) -> str:
        """Return the line that pulls a model."""
        scheme, _, host = address.partition("://")
        name = next((model.name for model in self._content.view.models() if self._is_gguf(model)), "MODEL")
        insecure = " --insecure" if scheme == "http" else ""
        return f"ollama pull {host}/{_LIBRARY if '/' not in name else ''}{name}{insecure}"

    def _is_gguf(self, model: Model) -> bool:
        return any((version.format or "").lower() == "gguf" for version in model.versions.values())

    # --- signed addresses

    def _signed(self, path: RegistryPath) -> str:
        expires = int(time.time()) + _SIGNED_SECONDS
        signature = self._signature(path, expires)
        return f"/v2/{path.name}/blobs/{path.reference}?expires={expires}&signature={signature}"

    def _signature(self, path: RegistryPath, expires: int) -> str:
        text = f"{path.name}\n{path.reference}\n{expires}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def _is_signed(self, path: RegistryPath, request: DoorRequest) -> bool:
        values = request.values
        expires = values.get("expires", "")
        if path.action != "blobs" or not re.fullmatch(r"[0-9]{1,12}", expires) or int(expires) < time.time():
            return False
        given = values.get("signature", "").encode()
        return hmac.compare_digest(given, self._signature(path, int(expires)).encode())

    # --- manifests

    def _manifest(self, model: Model, reference: str, request: DoorRequest) -> GatewayResponse:
        release, quantisation = self._find(model, reference)
        blobs = self._contents(release, quantisation)
        self._book.add(release, [(digest, blob) for digest, _, blob in blobs])
        (config_digest, _, config), *layers = blobs
        assert isinstance(config, Blob)  # noqa: S101  the first one is made up
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": _CONFIG_TYPE, "digest": config_digest, "size": len(config.data)},
            "layers": [
                {"mediaType": media_type, "digest": digest, "size": _size(blob)}
                for digest, media_type, blob in layers
            ],
        }
        return manifest_response(json_blob(MANIFEST_TYPE, document), request)

    def _find(self, model: Model, reference: str) -> tuple[ServedRelease, _Quantisation]:
        """Return the version and the quantisation that a tag means. Raises ReleaseMissingError."""
        tries = [(reference, "")]
        if (found := _QUANTISATION.search(reference)) is not None:
            tries.append((reference[: found.start()] or "latest", found[1]))
        missing: ReleaseMissingError | None = None
        for revision, wanted in tries:
            try:
                release = self._content.view.release(model, revision)
            except ReleaseMissingError as error:
                missing = missing or error
                continue
            return release, self._quantisation(release, wanted)
        assert missing is not None  # noqa: S101  there is at least one try
        raise missing

    def _quantisation(self, release: ServedRelease, wanted: str) -> _Quantisation:
        found = quantisations(self._content.files(release))
        names = [each.name for each in found]
        if not found:
            raise ReleaseMissingError(Missing.REVISION, f"{release.version.ref} has no GGUF file")
        chosen = next((each for each in found if each.name.upper() == wanted.upper()), None)
        if chosen is None and wanted:
            raise ReleaseMissingError(
                Missing.REVISION, f"{release.version.ref} has no {wanted}; it has {', '.join(names)}"
            )
        chosen = chosen or next((each for each in found if each.name == _PREFERRED), found[0])
        if len(chosen.files) > 1:
            raise ReleaseMissingError(
                Missing.REVISION,
                f"{release.version.ref} is split into {len(chosen.files)} files, and ollama loads one: "
                "merge them with llama-gguf-split",
            )
        return chosen

    def _contents(
        self, release: ServedRelease, quantisation: _Quantisation
    ) -> list[tuple[str, str, BlobContent]]:
        """Return digest, media type and content of the config, and of every layer."""
        (model,) = quantisation.files
        files = self._content.files(release).by_path
        layers: list[tuple[str, str, BlobContent]] = [(digest_of(model), f"{_LAYER}model", model)]
        for path, file in files.items():
            kind = "license" if PurePosixPath(path).stem.lower() in _LICENCES else path
            if "/" not in path and kind in _SIDE_LAYERS:
                layers.append((digest_of(file), f"{_LAYER}{kind}", file))
        config = _config(self._summary(model), quantisation, [digest for digest, _, _ in layers])
        return [(config.digest, _CONFIG_TYPE, config), *layers]

    def _summary(self, file: ReleaseFile) -> _Summary | None:
        """Return what the header of a GGUF file says, None for a malformed one. Reads no more than that."""
        if file.address in self._summaries:
            return self._summaries[file.address]
        read = self._content.reader()
        node = open_file(file, read)

        def read_at(size: int, offset: int) -> bytes:
            span = Span(min(offset, file.size), min(offset + size, file.size))
            return b"".join(file_bytes(node, span, read))

        try:
            header = parse_gguf(read_at, file.size)
            found = _Summary(header.architecture, header.file_type, header.parameters)
        except (MalformedGgufError, GgufEndError, GgufTooLongError):
            found = None
        with self._lock:
            self._summaries[file.address] = found
            while len(self._summaries) > _KEPT:
                self._summaries.popitem(last=False)
        return found

    def _blobs(self, release: ServedRelease) -> Iterator[tuple[str, BlobContent]]:
        for quantisation in quantisations(self._content.files(release)):
            if len(quantisation.files) == 1:
                for digest, _, blob in self._contents(release, quantisation):
                    yield digest, blob


def quantisations(files: ReleaseFiles) -> list[_Quantisation]:
    """Return the GGUF models of a version by name; the parts of a split one are one model."""
    groups: dict[str, list[ReleaseFile]] = {}
    for file in files:
        path = PurePosixPath(file.path)
        if path.suffix.lower() != ".gguf" or path.name.lower().startswith("mmproj"):
            continue
        split = _SPLIT.fullmatch(path.stem)
        stem = split[1] if split else path.stem
        groups.setdefault(str(path.with_name(stem)), []).append(file)
    found = []
    for stem, members in groups.items():
        path = PurePosixPath(stem)
        name = _QUANTISATION.search(path.name) or _QUANTISATION.search(path.parent.name)
        found.append(_Quantisation((name[1] if name else path.name).upper(), tuple(members)))
    return sorted(found, key=lambda each: each.name)


def _config(header: _Summary | None, quantisation: _Quantisation, layers: Sequence[str]) -> Blob:
    family = (header and header.architecture) or "unknown"
    file_type = FILE_TYPES.get(header.file_type) if header and header.file_type is not None else None
    document: Mapping[str, object] = {
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": _amount(header.parameters) if header else "",
        "file_type": file_type or quantisation.name,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": list(layers)},
    }
    return Blob(_CONFIG_TYPE, json.dumps(document, sort_keys=True).encode())


def _amount(parameters: int) -> str:
    """Return a number of parameters as ollama shows it, such as 7.2B."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if parameters >= size:
            return f"{parameters / size:.2f}{unit}" if unit in "MK" else f"{parameters / size:.1f}{unit}"
    return str(parameters)


def _size(blob: BlobContent) -> int:
    if isinstance(blob, Blob):
        return len(blob.data)
    assert isinstance(blob, ReleaseFile)  # noqa: S101  this door has no tar layers
    return blob.size
