"""A release as an OCI artifact of the ModelPack specification, with every file as a raw layer.

A layer has the digest and the size of the file itself, so the blocks of the file are the blob. Everything
else is a function of model, version and files, and of nothing that can be edited in an index later on, such
as a licence: the digest of the manifest changes exactly when they do, and can be written into a deployment.
Sources: OCI image specification 1.1, `manifest.md`; CNCF ModelPack model-spec, `docs/spec.md` and
`docs/config.md` (2026-06).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from reconciler.gateway.release_files import ReleaseFile
from reconciler.index.model import Version

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
_LAYER_TYPE = "application/vnd.cncf.model.{}.v1.raw"
TITLE = "org.opencontainers.image.title"
_FILE_PATH = "org.cncf.model.filepath"

_WEIGHTS = {
    ".safetensors", ".gguf", ".ggml", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack", ".npz",
    ".npy", ".tflite", ".keras", ".mlmodel", ".engine",
}  # fmt: skip
_DOCUMENTS = {".md", ".rst", ".pdf", ".html"}
_DOCUMENT_NAMES = {"license", "licence", "notice", "readme", "sha256sums", "manifest.json"}
_CODE = {".py", ".sh", ".ipynb", ".cu", ".cpp", ".c", ".js", ".ts"}
_DATA = {".parquet", ".jsonl", ".csv", ".tsv", ".arrow"}


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are made up for a protocol, such as a manifest or a config, with their digest."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """`sha256:` and the SHA-256 in hex."""
        return oci_digest(hashlib.sha256(self.data).digest())

    @property
    def descriptor(self) -> dict[str, object]:
        """The descriptor of the blob, for a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest and the config that it names."""

    manifest: Blob
    config: Blob


def model_artifact(version: Version, files: Sequence[ReleaseFile]) -> Artifact:
    """Return the ModelPack manifest of a version and its config."""
    config = json_blob(
        CONFIG_TYPE,
        {
            "descriptor": {"name": version.model, "version": version.version},
            "modelfs": {"type": "layers", "diffIds": [digest_of(file) for file in files]},
            "config": {},
        },
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": config.descriptor,
        "layers": [_layer(version, file) for file in files],
        "annotations": {"org.opencontainers.image.version": version.version},
    }
    return Artifact(json_blob(MANIFEST_TYPE, manifest), config)


def json_blob(media_type: str, document: object) -> Blob:
    """Return a JSON document as a blob; equal documents have equal bytes."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Blob(media_type, text.encode())


def oci_digest(sha256: bytes) -> str:
    """Return a SHA-256 as OCI writes it."""
    return f"sha256:{sha256.hex()}"


def digest_of(file: ReleaseFile) -> str:
    """Return the digest of a file as OCI writes it."""
    return oci_digest(file.sha256)


def _layer(version: Version, file: ReleaseFile) -> dict[str, object]:
    return {
        "mediaType": _LAYER_TYPE.format(_role(version, file.path)),
        "digest": digest_of(file),
        "size": file.size,
        "annotations": {TITLE: file.path, _FILE_PATH: file.path},
    }


def _role(version: Version, path: str) -> str:
    """Return the part of the media type that says what a file is for."""
    name = PurePosixPath(path)
    suffix = name.suffix.lower()
    if version.kind == "dataset" and suffix in _DATA | {".json", ".txt"}:
        return "dataset"
    if suffix in _WEIGHTS:
        return "weight"
    if suffix in _DOCUMENTS or name.stem.lower() in _DOCUMENT_NAMES or name.name.lower() in _DOCUMENT_NAMES:
        return "doc"
    if suffix in _CODE:
        return "code"
    return "dataset" if suffix in _DATA else "weight.config"
