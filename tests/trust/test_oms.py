"""Statements of OpenSSF Model Signing: what is made from known digests, and what is read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.trust import oms
from reconciler.trust.oms import GIT_PATHS, PREDICATE, SignedSpan, parse_model, render_model
from reconciler.trust.statement import StatementError, encode_statement, parse_statement

DIGESTS = {
    "config.json": hashlib.sha256(b"{}").hexdigest(),
    "a/model.safetensors": hashlib.sha256(b"weights").hexdigest(),
    "SHA256SUMS": hashlib.sha256(b"sums").hexdigest(),
}


def test_the_statement_lists_every_file_once_in_the_order_of_names() -> None:
    made = json.loads(render_model("acme/llm", DIGESTS))
    names = ["SHA256SUMS", "a/model.safetensors", "config.json"]
    assert [each["name"] for each in made["predicate"]["resources"]] == names
    together = b"".join(bytes.fromhex(DIGESTS[name]) for name in names)
    assert made["subject"] == [{"digest": {"sha256": hashlib.sha256(together).hexdigest()}, "name": "llm"}]


@given(
    st.dictionaries(st.sampled_from(["a", "b/c", "b d", "ü", ".gitignore", ".git/x"]), st.binary(max_size=3))
)
def test_reading_gives_what_was_written(files: dict[str, bytes]) -> None:
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    covered = {path for path in digests if not path.startswith(".git")}
    if not covered:
        with pytest.raises(StatementError, match="without files"):
            render_model("m", digests)
        return
    read = parse_model(parse_statement(render_model("m", digests)))
    assert {span.path: span.digest for span in read.spans} == {path: digests[path] for path in covered}
    assert sorted(digests.keys() - covered) == oms.left_out(digests)
    assert read.ignored == frozenset(GIT_PATHS)


def document(
    resources: list[dict[str, Any]] | None = None, subject: str | None = None, **serialization: Any
) -> bytes:
    listed = resources if resources is not None else [resource("a"), resource("b")]
    joined = b"".join(
        bytes.fromhex(each.get("digest", ""))
        for each in sorted(listed, key=lambda each: str(each.get("name")))
        if all(letter in "0123456789abcdef" for letter in each.get("digest", "z"))
    )
    how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, **serialization}
    digest = subject or hashlib.sha256(joined).hexdigest()
    predicate = {"resources": listed, "serialization": {k: v for k, v in how.items() if v is not None}}
    return encode_statement(PREDICATE, {"name": "m", "digest": {"sha256": digest}}, predicate)


def resource(name: str, algorithm: str = "sha256", size: int = 32) -> dict[str, Any]:
    return {"name": name, "algorithm": algorithm, "digest": "ab" * size}


def shards(*names: str, size: int = 100) -> bytes:
    return document([resource(name) for name in names], method="shards", shard_size=size)


REFUSED = {
    "another predicate": (
        encode_statement("https://example.com", {"digest": {"sha256": ""}}, {}),
        "has the type",
    ),
    "no file": (document([]), "lists no file"),
    "a file twice": (document([resource("a"), resource("a")]), "one of them twice"),
    "another subject": (document(subject="00" * 32), "not the one that its subject names"),
    "a path to the parent": (document([resource("../a")]), "not a path inside"),
    "an absolute path": (document([resource("/a")]), "not a path inside"),
    "an empty part": (document([resource("a//b")]), "not a path inside"),
    "an unknown method": (document(method="trees"), "which is unknown"),
    "an unknown hash": (document(hash_type="md5"), "which is unknown"),
    "a digest of another hash": (document([resource("a", "blake2b", 64)]), "no digest of the signed kind"),
    "a short digest": (document([resource("a", size=16)]), "32 digits"),
    "a digest in capitals": (document([{**resource("a"), "digest": "AB" * 32}]), "no digest"),
    "symbolic links": (document(allow_symlinks=True), "follows symbolic links"),
    "ignored below a directory": (document(ignore_paths=["a/b"]), "not a name at the top"),
    "everything ignored": (document(ignore_paths=["."]), "not a name at the top"),
    "shards without their size": (document([resource("a:0:5")], method="shards"), "shard_size"),
    "a shard that is too long": (shards("a:0:101"), "not a part of a file"),
    "a shard that is empty": (shards("a:5:5"), "not a part of a file"),
    "a shard without its end": (shards("a:5"), "not a part of a file"),
    "no serialization": (
        encode_statement(PREDICATE, {"digest": {"sha256": ""}}, {"resources": []}),
        "is not a string",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_statement_is_refused(case: str) -> None:
    payload, message = REFUSED[case]
    with pytest.raises(StatementError, match=message):
        parse_model(parse_statement(payload))


def test_shards_are_read_with_colons_in_names() -> None:
    read = parse_model(parse_statement(shards("a:b:0:100", "a:b:100:150")))
    assert read.spans == (SignedSpan("a:b", "ab" * 32, 0, 100), SignedSpan("a:b", "ab" * 32, 100, 150))


def test_blake2b_is_read_and_blake3_cannot_be_computed() -> None:
    read = parse_model(parse_statement(document([resource("a", "blake2b", 64)], hash_type="blake2b")))
    assert oms.new_hash(read.algorithm).hexdigest() == hashlib.blake2b().hexdigest()
    blake3 = parse_model(parse_statement(document([resource("a", "blake3")], hash_type="blake3")))
    with pytest.raises(StatementError, match="BLAKE3"):
        oms.new_hash(blake3.algorithm)
