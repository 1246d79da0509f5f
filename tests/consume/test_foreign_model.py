"""Models that others signed with OpenSSF Model Signing, compared file by file."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from reconciler.consume.foreign_model import ForeignModel, check_model
from reconciler.errors import BundleError, DataError, TrustError, UsageError
from reconciler.progress import QUIET
from reconciler.trust.certificates import parse_authorities
from reconciler.trust.oms import PREDICATE, render_model
from reconciler.trust.policy import AcceptedSigner, CertifiedSigner, KeyHolder
from reconciler.trust.public_keys import parse_public_key
from reconciler.trust.statement import encode_statement
from tests.support.scratch import PROJECT
from tests.support.signing import holder, signer

VECTORS = PROJECT / "tests/trust/vectors/model-signing"
KEY = KeyHolder(parse_public_key((VECTORS / "key.pem").read_bytes(), "key.pem"), "key.pem")
AUTHORITY = CertifiedSigner(
    parse_authorities((VECTORS / "authority.pem").read_bytes(), "authority.pem"),
    "release@acme.example",
    "acme",
)


def check(model: Path, *signers: AcceptedSigner) -> ForeignModel:
    return check_model(model, signers or (KEY,), QUIET)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of a model that the reference implementation signed with a key."""
    return Path(shutil.copytree(VECTORS / "key", tmp_path / "key"))


@pytest.mark.parametrize(
    ("name", "by"), [("key", KEY), ("certificate", AUTHORITY), ("single/model.gguf", KEY)]
)
def test_what_the_reference_implementation_signed_is_accepted(name: str, by: AcceptedSigner) -> None:
    found = check(VECTORS / name, by)
    assert (found.signer, found.differences, found.uncovered) == (by.label, (), ())


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("key", holder(1)),
        ("key", AUTHORITY),
        ("certificate", KEY),
        ("certificate", CertifiedSigner(AUTHORITY.authorities, "other@acme.example", "other")),
    ],
)
def test_another_signer_is_refused(name: str, by: AcceptedSigner) -> None:
    with pytest.raises(TrustError, match="is not signed by an accepted signer"):
        check(VECTORS / name, by)


def test_every_kind_of_difference_is_named(model: Path) -> None:
    (model / "sub/model.bin").write_bytes(b"weightS\n")
    (model / "empty").unlink()
    (model / "sub/extra.py").write_text("import os")
    found = check(model)
    assert [(each.path, each.kind.value) for each in found.differences] == [
        ("empty", "missing"),
        ("sub/extra.py", "extra"),
        ("sub/model.bin", "changed"),
    ]


def test_what_the_signature_leaves_out_is_named(model: Path) -> None:
    (model / ".gitattributes").write_text("* -text")
    found = check(model)
    assert found.differences == ()
    assert found.uncovered == (".gitattributes",)


def test_a_link_is_refused(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "config.json").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="symbolic link"):
        check(model)


def test_a_missing_signature_is_an_error(model: Path) -> None:
    (model / "model.sig").unlink()
    with pytest.raises(UsageError, match="has no signature"):
        check(model)


def test_a_signature_of_10_mb_is_refused(model: Path) -> None:
    (model / "model.sig").write_bytes(b" " * 10_000_000)
    with pytest.raises(DataError, match="is larger than"):
        check(model)


def signed_shards(model: Path, *spans: tuple[int, int], data: bytes, declared: bytes | None = None) -> None:
    """Sign the file `w.bin` in parts; `declared` are the bytes that are signed, `data` those on disk."""
    signed = data if declared is None else declared
    (model / "w.bin").write_bytes(data)
    resources = [
        {
            "name": f"w.bin:{start}:{end}",
            "algorithm": "sha256",
            "digest": hashlib.sha256(signed[start:end]).hexdigest(),
        }
        for start, end in spans
    ]
    ordered = sorted(resources, key=lambda each: each["name"])
    subject = hashlib.sha256(b"".join(bytes.fromhex(each["digest"]) for each in ordered)).hexdigest()
    how = {"method": "shards", "hash_type": "sha256", "allow_symlinks": False, "shard_size": 4}
    predicate = {"resources": ordered, "serialization": how}
    statement = encode_statement(PREDICATE, {"name": "m", "digest": {"sha256": subject}}, predicate)
    (model / "model.sig").write_bytes(signer().sign(statement).bundle)


def test_parts_of_files_are_compared_with_their_offsets(tmp_path: Path) -> None:
    data = bytes(10)
    signed_shards(tmp_path, (0, 4), (4, 8), (8, 10), data=data)
    assert check(tmp_path).differences == ()
    signed_shards(tmp_path, (0, 4), (4, 8), (8, 10), data=data, declared=b"\0" * 5 + b"x" + bytes(4))
    (changed,) = check(tmp_path).differences
    assert changed.offsets == (4,)


@pytest.mark.parametrize("spans", [((0, 4), (4, 8)), ((4, 8), (8, 10)), ((0, 4), (8, 10))])
def test_parts_that_do_not_make_the_whole_file_are_a_change(
    tmp_path: Path, spans: tuple[tuple[int, int], ...]
) -> None:
    """Bytes between signed parts, before or after them, could be anything."""
    signed_shards(tmp_path, *spans, data=bytes(10))
    assert [each.path for each in check(tmp_path).differences] == ["w.bin"]


def test_our_own_bundle_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    statement = render_model("acme/llm", {"a": hashlib.sha256(b"x").hexdigest()})
    (tmp_path / "oms.sigstore.json").write_bytes(signer().sign(statement).bundle)
    assert check(tmp_path, holder()).differences == ()
