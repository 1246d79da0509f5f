"""Signatures of versions as OCI artifacts that refer to the manifests of the versions.

Each file with a signature beside the index is the layer of a manifest whose `subject` is the manifest of the
version. What it signs is the root CID: the statement is checked with `reconcile verify`, not by tools that
expect a signature over the OCI digest. Sources: OCI image specification 1.1, `manifest.md`, "Guidelines for
artifact usage"; OCI distribution specification 1.1, "Listing referrers".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.gateway.doors.modelpack import MANIFEST_TYPE, TITLE, Blob, json_blob
from reconciler.index.model import Version

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_EMPTY = Blob("application/vnd.oci.empty.v1+json", b"{}")
_SIGNER = "org.model-reconciler.signer"


@dataclass(frozen=True, slots=True)
class SignatureFile:
    """A file with a signature of a version: the folder of its signer, its name, and its bytes."""

    signer: str
    name: str
    data: bytes


#: returns the files with signatures of a version
FindSignatures = Callable[[Version], Sequence[SignatureFile]]


@dataclass(frozen=True, slots=True)
class SignatureArtifact:
    """A signature as an artifact: its manifest, its file, and the folder of its signer."""

    manifest: Blob
    file: Blob
    signer: str

    @property
    def blobs(self) -> list[tuple[str, Blob]]:
        """The blobs that the manifest names, by digest."""
        return [(blob.digest, blob) for blob in (_EMPTY, self.file)]


def signature_artifacts(subject: Blob, signatures: Sequence[SignatureFile]) -> list[SignatureArtifact]:
    """Return an artifact for each signature of the version whose manifest is `subject`."""
    found = []
    for signature in signatures:
        file = Blob(BUNDLE_TYPE, signature.data)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": BUNDLE_TYPE,
            "config": _EMPTY.descriptor,
            "layers": [file.descriptor | {"annotations": {TITLE: f"{signature.signer}-{signature.name}"}}],
            "subject": subject.descriptor,
            "annotations": {_SIGNER: signature.signer},
        }
        found.append(SignatureArtifact(json_blob(MANIFEST_TYPE, manifest), file, signature.signer))
    return found


def referrers_index(artifacts: Sequence[SignatureArtifact]) -> dict[str, object]:
    """Return the image index that lists `artifacts`."""
    return {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            each.manifest.descriptor | {"artifactType": BUNDLE_TYPE, "annotations": {_SIGNER: each.signer}}
            for each in artifacts
        ],
    }
