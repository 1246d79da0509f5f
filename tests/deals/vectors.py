"""The inclusion proofs that real aggregators made, and how they are written down."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from reconciler.content import piece_cid
from reconciler.deals.interface import InclusionProof, MerklePath

REAL = sorted((Path(__file__).parent / "vectors").glob("*.json"))


def proof_of(vector: dict[str, Any]) -> InclusionProof:
    """The proof in a vector: piece, aggregate, and for each path its start and its nodes in base64."""
    paths = [
        MerklePath(vector[name]["at"], tuple(base64.b64decode(each) for each in vector[name]["siblings"]))
        for name in ("subtree", "index")
    ]
    return InclusionProof(piece_cid.parse(vector["piece"]), piece_cid.parse(vector["aggregate"]), *paths)
