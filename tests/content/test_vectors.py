"""Public vectors of other implementations: roots of the profile, and blocks that are not UnixFS."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from reconciler.content import dagpb, unixfs
from reconciler.content.profile import CHUNK_SIZE
from reconciler.content.unixfs_tree import DIGEST_SIZE, file_tree, leaf_count
from reconciler.errors import DataError
from tests.support.chacha20 import seeded_bytes
from tests.support.dags import Blocks, Source

VECTORS = Path(__file__).parent / "vectors"
LEAVES = "v1-2025-seed.leaves"
NAME_ALPHABET = b"abcdefghijklmnopqrstuvwxyz01234567890-_"


def vectors(outcome: str) -> list[object]:
    found = [
        (path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(VECTORS.glob("*.json"))
    ]
    return [pytest.param(vector, id=name) for name, vector in found if vector["outcome"] == outcome]


def test_every_vector_has_an_outcome_that_is_tested():
    outcomes = {json.loads(path.read_text(encoding="utf-8"))["outcome"] for path in VECTORS.glob("*.json")}

    assert outcomes == {"root", "not-unixfs", "not-dag-pb"}


@pytest.mark.parametrize("vector", vectors("root"))
def test_our_root_is_the_published_one(vector):
    assert str(root_of(vector["input"])) == vector["root"]


@pytest.mark.parametrize("vector", vectors("not-unixfs"))
def test_dag_pb_without_unixfs_is_refused_by_unixfs_only(vector):
    node = dagpb.decode(bytes.fromhex(vector["input"]["dag-pb"]))

    with pytest.raises(DataError):
        unixfs.decode(node.data)


@pytest.mark.parametrize("vector", vectors("not-dag-pb"))
def test_links_with_identity_cids_are_refused(vector):
    with pytest.raises(DataError, match="only sha2-256"):
        dagpb.decode(bytes.fromhex(vector["input"]["dag-pb"]))


@pytest.mark.parametrize("index", [0, 1, 511, 1023, 1024])
def test_the_committed_leaves_are_those_of_the_seeded_stream(index):
    size = 1 if index == 1024 else CHUNK_SIZE

    assert sha256_of_chunk(index, size) == committed_leaf(index)


@pytest.mark.slow
def test_all_the_committed_leaves_are_those_of_the_seeded_stream():
    for index in range(1024):
        assert sha256_of_chunk(index, CHUNK_SIZE) == committed_leaf(index)


def sha256_of_chunk(index: int, size: int) -> bytes:
    return hashlib.sha256(seeded_bytes("v1-2025-seed", size, index * CHUNK_SIZE)).digest()


def committed_leaf(index: int) -> bytes:
    return (VECTORS / LEAVES).read_bytes()[DIGEST_SIZE * index : DIGEST_SIZE * (index + 1)]


def root_of(recipe):
    if "leaves" in recipe:
        leaves = (VECTORS / recipe["leaves"]).read_bytes()[: DIGEST_SIZE * leaf_count(recipe["size"])]
        return file_tree(recipe["size"], leaves).cid
    return Blocks().pack(source_of(recipe)).cid


def source_of(recipe) -> Source:
    if "names" in recipe:
        return dict.fromkeys(seeded_names(recipe["names"]), recipe["text"].encode())
    if "entries" in recipe:
        return encoded(recipe["entries"])
    if "chacha20" in recipe:
        return seeded_bytes(recipe["chacha20"], recipe["size"])
    return recipe["text"].encode()


def encoded(entries) -> Source:
    return (
        entries.encode()
        if isinstance(entries, str)
        else {name: encoded(child) for name, child in entries.items()}
    )


def seeded_names(recipe) -> list[str]:
    """Return names of the seeded stream, one letter for each byte."""
    stream = seeded_bytes(recipe["chacha20"], 1024 * 1024)
    lengths = [recipe["length"]] * (recipe["count"] - 1) + [recipe["last_length"]]
    names, offset = [], 0
    for length in lengths:
        names.append(
            bytes(NAME_ALPHABET[byte % len(NAME_ALPHABET)] for byte in stream[offset : offset + length])
        )
        offset += length
    return [name.decode() for name in names]
