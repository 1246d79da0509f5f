"""Signatures as JSON documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconciler.consume.foreign_model import ForeignModel
from reconciler.loop.sign import SignedRelease


def signed_document(signed: Sequence[SignedRelease]) -> dict[str, Any]:
    """Return the document of a signing (schemas/signed.schema.json)."""
    return {
        "schema": 1,
        "kind": "signed",
        "items": [
            {
                "model": each.version.model,
                "version": each.version.version,
                "cid": str(each.release.cid),
                "signer": each.signer,
                "files": [str(path) for path in each.files],
                "uncovered": list(each.uncovered),
            }
            for each in signed
        ],
    }


def foreign_model_document(name: str, model: Path, found: ForeignModel) -> dict[str, Any]:
    """Return the document of the check of a model that somebody else signed."""
    return {
        "schema": 1,
        "kind": "model-signature",
        "ok": not found.differences,
        "model": name,
        "path": str(model),
        "signer": found.signer,
        "files": found.files,
        "bytes": found.size,
        "uncovered": list(found.uncovered),
        "differences": [
            {"path": each.path, "kind": each.kind.value, "offsets": list(each.offsets)}
            for each in found.differences
        ],
    }
