"""What is signed about a release: in-toto statements over the root CID, the files, and the origin.

    {"_type": "https://in-toto.io/Statement/v1",
     "subject": [{"name": "acme/llm@1.2.0", "uri": "ipfs://bafy...", "digest": {"sha256": "<in the CID>"}}],
     "predicateType": "urn:model-reconciler:release:v1",
     "predicate": {"index": "acme-models", "model": "acme/llm", "version": "1.2.0", "cid": "bafy...",
                   "dirhash": "<sha256 of SHA256SUMS>", "size": 123}}

The SHA-256 in the CID is that of the root block, so every in-toto verifier can check the release statement:
with the block, or with the digest alone. The statement repeats index, model and version, since a signature of
one version must not be good for another. Source: in-toto attestation framework, Statement v1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.content.cid import Cid
from reconciler.errors import DataError
from reconciler.json_fields import JsonFields, load_json

STATEMENT = "https://in-toto.io/Statement/v1"
RELEASE_PREDICATE = "urn:model-reconciler:release:v1"
PROVENANCE_PREDICATE = "https://slsa.dev/provenance/v1"
SIGNATURES = "signatures"  #: the directory beside the index


class StatementError(DataError):
    """A statement is malformed, or says something else than it should."""


@dataclass(frozen=True, slots=True)
class Release:
    """A version as its signatures must name it.

    `index` is the id of the index; None for content that no index names, whose statement is compared by the
    CID alone. `dirhash` (hex) and `size` (bytes) are those of the record; None when there is no record.
    """

    index: str | None
    model: str
    version: str
    cid: Cid
    dirhash: str | None = None
    size: int | None = None

    @property
    def ref(self) -> str:
        """`model@version`, or the CID."""
        return f"{self.model}@{self.version}" if self.model else str(self.cid)


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed in-toto statement: the name and the SHA-256 (hex) of its one subject, and its predicate."""

    name: str
    sha256: str
    uri: str
    kind: str
    predicate: JsonFields


def render_release(release: Release) -> bytes:
    """Return the release statement. Its bytes depend on the release alone."""
    predicate: dict[str, object] = {
        "index": release.index,
        "model": release.model,
        "version": release.version,
        "cid": str(release.cid),
        "dirhash": release.dirhash,
        "size": release.size,
    }
    known = {key: value for key, value in predicate.items() if value is not None}
    return render_statement(release, RELEASE_PREDICATE, known)


def render_statement(release: Release, kind: str, predicate: Mapping[str, object]) -> bytes:
    """Return a statement of the predicate type `kind` about `release`, in compact JSON with sorted names."""
    subject = {
        "name": release.ref,
        "uri": f"ipfs://{release.cid}",
        "digest": {"sha256": release.cid.digest.hex()},
    }
    return encode_statement(kind, subject, predicate)


def encode_statement(kind: str, subject: Mapping[str, object], predicate: Mapping[str, object]) -> bytes:
    """Return an in-toto statement with one subject, in compact JSON with sorted names."""
    document = {"_type": STATEMENT, "subject": [subject], "predicateType": kind, "predicate": predicate}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_statement(payload: bytes) -> Statement:
    """Parse a statement with exactly one subject. Raises StatementError."""
    try:
        value = load_json(payload.decode("utf-8"))
    except ValueError as error:
        raise StatementError(f"the signed statement is not JSON: {str(error)[:200]}") from None
    fields = JsonFields(value, lambda message: StatementError(f"the signed statement: {message}"))
    if (found := fields.text("_type")) != STATEMENT:
        raise StatementError(f"the signed statement has the type {found[:120]!r}")
    subjects = list(fields.items("subject"))
    if len(subjects) != 1:
        raise StatementError(f"the signed statement has {len(subjects)} subjects instead of one")
    subject = subjects[0]
    return Statement(
        subject.text_or("", "name"),
        subject.text("digest", "sha256"),
        subject.text_or("", "uri"),
        fields.text("predicateType"),
        fields.at("predicate"),
    )


def check_release(statement: Statement, release: Release) -> None:
    """Check that a release statement is about exactly this release.

    Raises StatementError that says what the statement names instead.
    """
    if statement.kind != RELEASE_PREDICATE:
        raise StatementError(
            f"the statement has the type {statement.kind[:120]!r}, not {RELEASE_PREDICATE!r}"
        )
    check_subject(statement, release)
    said = statement.predicate
    expected: dict[str, object] = {"cid": str(release.cid)}
    if release.index is not None:
        expected |= {"index": release.index, "model": release.model, "version": release.version}
    for key, wanted in expected.items():
        if (found := said.text(key)) != wanted:
            raise StatementError(f"the signature is for {key} {found[:200]!r}, not {wanted!r}")
    if release.dirhash is not None and said.has("dirhash") and said.text("dirhash") != release.dirhash:
        raise StatementError("the signature is for another SHA256SUMS than the record has")
    if release.size is not None and said.has("size") and said.number("size") != release.size:
        raise StatementError(
            f"the signature is for {said.number('size')} bytes, and the record has {release.size}"
        )


def check_subject(statement: Statement, release: Release) -> None:
    """Check the subject of any statement about a release. Raises StatementError."""
    if release.index is not None and statement.name != release.ref:
        raise StatementError(f"the signature is for {statement.name[:200]!r}, not {release.ref!r}")
    if statement.sha256 != release.cid.digest.hex():
        what = statement.uri.removeprefix("ipfs://")[:100] or f"the root block {statement.sha256[:64]}"
        raise StatementError(f"the signature is for {what}, not for {release.cid}")
    if statement.uri != f"ipfs://{release.cid}" and statement.uri:
        raise StatementError(f"the signature names {statement.uri[:100]!r}, not {release.cid}")
