"""OpenSSF Model Signing 1.0: the statement over all files of a model that other tools make and verify.

    "predicateType": "https://model_signing/signature/v1.0",
    "predicate": {"resources": [{"name": "config.json", "algorithm": "sha256", "digest": "<hex>"}, ...],
                  "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false,
                                    "ignore_paths": [".git", ".gitattributes", ".github", ".gitignore"]}}

Its subject is the SHA-256 of the digests one after the other, in the order of the names. It is made from
digests that are known already: no file is read. The method `shards` is verified and never made, since the
reference implementation cannot verify it. Source: model-signing-spec 1.0, sections 5 to 7.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from reconciler.json_fields import JsonFields
from reconciler.trust.statement import Statement, StatementError, encode_statement

PREDICATE = "https://model_signing/signature/v1.0"
MAX_OMS = 8 << 20  #: bytes of a bundle over all files, for about 40,000 of them
GIT_PATHS = (".git", ".gitattributes", ".github", ".gitignore")  #: which other tools leave out of every model
_HASHES = {"sha256": 32, "blake2b": 64, "blake3": 32}
_SHARD = re.compile(r"(.+):([0-9]{1,15}):([0-9]{1,15})", re.DOTALL)
SINGLE_FILE = "."  #: the name of the only file of a model that is a file


@dataclass(frozen=True, slots=True)
class SignedSpan:
    """A file, or with `shards` a part of it, with the digest (hex) that was signed; `end` None is its end."""

    path: str
    digest: str
    start: int = 0
    end: int | None = None


@dataclass(frozen=True, slots=True)
class SignedModel:
    """What a statement says about the files of a model. `algorithm` is sha256, blake2b or blake3.

    `ignored` are names at the top of the model that the signature does not cover.
    """

    spans: tuple[SignedSpan, ...]
    algorithm: str
    ignored: frozenset[str]

    def covers(self, path: str) -> bool:
        """Return whether the statement should list `path`."""
        return path.partition("/")[0] not in self.ignored


def left_out(paths: Iterable[str]) -> list[str]:
    """Return the paths of a bundle that its Model Signing statement cannot cover: git's own at the top."""
    return sorted(path for path in paths if path.partition("/")[0] in GIT_PATHS)


def render_model(name: str, digests: Mapping[str, str]) -> bytes:
    """Return the statement over files by their path, with SHA-256 in hex. Raises StatementError for none."""
    unsigned = frozenset(left_out(digests))
    resources = [
        {"name": path, "algorithm": "sha256", "digest": digests[path]}
        for path in sorted(digests)
        if path not in unsigned
    ]
    if not resources:
        raise StatementError("a model without files cannot be signed")
    predicate = {
        "resources": resources,
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": list(GIT_PATHS),
        },
    }
    subject = {"name": PurePosixPath(name).name, "digest": {"sha256": _subject(resources)}}
    return encode_statement(PREDICATE, subject, predicate)


def parse_model(statement: Statement) -> SignedModel:
    """Parse the predicate of a statement, and check its subject. Raises StatementError."""
    if statement.kind != PREDICATE:
        raise StatementError(f"the statement has the type {statement.kind[:120]!r}, not {PREDICATE!r}")
    fields = statement.predicate
    how = fields.at("serialization")
    method, algorithm = how.text("method"), how.text("hash_type")
    if method not in ("files", "shards") or algorithm not in _HASHES:
        raise StatementError(
            f"the model is signed by {method[:40]!r} of {algorithm[:40]!r}, which is unknown"
        )
    if how.flag("allow_symlinks"):
        raise StatementError("the signature follows symbolic links, which are not accepted here")
    shard = how.number_in(1, 1 << 50, "shard_size") if method == "shards" else None
    entries = [_entry(each, algorithm) for each in fields.items("resources")]
    names = [entry["name"] for entry in entries]
    if not names or len(set(names)) != len(names):
        raise StatementError("the signed statement lists no file, or one of them twice")
    if _subject(sorted(entries, key=lambda entry: entry["name"])) != statement.sha256:
        raise StatementError("the signed list of files is not the one that its subject names")
    spans = [_span(entry, shard) for entry in entries]
    return SignedModel(tuple(spans), algorithm, frozenset(_ignored(how)))


class ContentHash(Protocol):
    """A hash in progress."""

    def update(self, data: bytes, /) -> None:
        """Add `data`."""

    def hexdigest(self) -> str:
        """Return the digest in hex."""


def new_hash(algorithm: str) -> ContentHash:
    """Return a hash of Model Signing. Raises StatementError for blake3, which Python does not have."""
    if algorithm == "blake3":
        raise StatementError("the model is signed by its BLAKE3 digests, which Python cannot compute")
    return hashlib.sha256() if algorithm == "sha256" else hashlib.blake2b()


def _subject(entries: Iterable[Mapping[str, str]]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(entry["digest"]) for entry in entries)).hexdigest()


def _entry(fields: JsonFields, algorithm: str) -> dict[str, str]:
    name, digest = fields.text("name"), fields.text("digest")
    if fields.text("algorithm") != algorithm or not re.fullmatch(r"[0-9a-f]+", digest):
        raise StatementError(f"{name[:200]!r} has no digest of the signed kind {algorithm}")
    if len(digest) != 2 * _HASHES[algorithm]:
        raise StatementError(f"{name[:200]!r} has a {algorithm} digest of {len(digest)} digits")
    return {"name": name, "digest": digest}


def _span(entry: Mapping[str, str], shard: int | None) -> SignedSpan:
    path, start, end = entry["name"], 0, None
    if shard is not None:
        found = _SHARD.fullmatch(path)
        if found is None or not int(found[2]) < int(found[3]) <= int(found[2]) + shard:
            raise StatementError(f"{path[:200]!r} is not a part of a file of at most {shard} bytes")
        path, start, end = found[1], int(found[2]), int(found[3])
    parts = path.split("/")
    if path != SINGLE_FILE and ("\0" in path or any(part in ("", ".", "..") for part in parts)):
        raise StatementError(f"{path[:200]!r} is not a path inside a model")
    return SignedSpan(path, entry["digest"], start, end)


def _ignored(how: JsonFields) -> Iterable[str]:
    """Yield the names that are left out. Only names at the top are accepted, as other tools write them."""
    for each in how.items_or_none("ignore_paths"):
        name = each.text().removeprefix("./")
        if "/" in name or name in ("", ".", ".."):
            raise StatementError(f"the signature leaves out {name[:200]!r}, which is not a name at the top")
        yield name
