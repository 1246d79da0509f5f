"""Signatures as JSON documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
