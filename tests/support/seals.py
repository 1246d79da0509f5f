"""Keys and sealed bundles for tests."""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.content.age.keys import AgeIdentity
from reconciler.content.bundle import Bundle, make_bundle
from reconciler.content.identity_cache import RACY_NS
from reconciler.content.scan import scan
from reconciler.content.sealing.seal_key import SealKey
from reconciler.content.sealing.sealed_dag import SealedDag, identify_sealed
from reconciler.content.walk import NodeKind, leaf_bytes, walk

# made by rage: `secret` with the passphrase `correct horse`, which takes seconds
WITH_PASSPHRASE = base64.b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBmNU9rRzdSeHF0a2NpbU5VNmFlS0pnIDE3CnJzZm1ia2Zk"
    "cEVuVEI2bVlSMU85enlXY2wrL3hYblJONG1BOEN6VW51L2MKLS0tIC9Ockp5cllrSUdINGdFUjNYQThRZFpJNnhR"
    "cElYWFpSSTluRDcxT2phTDgKp/w1BNXmGJuzxv3d+uJrlIFy7khxocr2BnAqeuDgI3OAgbhdOlM="
)


def identity(number: int = 1) -> AgeIdentity:
    """Return one of a few private keys, always the same."""
    return AgeIdentity(bytes((number,)) * 32)


KEY = SealKey(identity())


def weights(size: int) -> bytes:
    """Return `size` bytes of which no 32 occur twice, always the same."""
    return random.Random(size).randbytes(size)


def bundle_of(root: Path) -> Bundle:
    """Return the bundle of a directory, as if it had been scanned long after its files were written."""
    listing = scan(root, include_hidden=False)
    settled = replace(listing, scanned_at_ns=listing.scanned_at_ns + 10 * RACY_NS)
    return make_bundle(settled, model="m", version="1.0.0")


def sealed(
    root: Path, key: SealKey = KEY, *, hides_names: bool = False, cache: Path | None = None
) -> SealedDag:
    """Return the sealed form of the bundle of `root`."""
    return identify_sealed(bundle_of(root), key, hides_names=hides_names, cache=cache)


def files_of(dag: SealedDag) -> Mapping[str, bytes]:
    """Return the files of a sealed bundle by path."""

    def block(position: int | None) -> bytes:
        assert position is not None
        return dag.read(position)

    found = walk(dag.layout.root, lambda cid: block(dag.layout.find(cid)))
    return {
        node.path: b"".join(
            leaf_bytes(dag.layout, leaf.position, dag.read(leaf.position)) for leaf in found.leaves(node)
        )
        for node in found.nodes
        if node.kind is NodeKind.FILE
    }
