from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from reconciler.errors import DataError, ReconcilerError, UsageError
from reconciler.trust.public_keys import parse_public_key
from reconciler.trust.signing import KeySigner, identity_folder, open_signer
from reconciler.trust.statement import render_release
from tests.support.signing import RELEASE, new_authority, private_pem, public_key, signer

STATEMENT = render_release(RELEASE)


def encrypted(password: str) -> bytes:
    key = serialization.load_pem_private_key(private_pem(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )


def test_the_same_key_and_release_give_the_same_bytes() -> None:
    assert signer().sign(STATEMENT) == signer().sign(STATEMENT)
    assert signer().sign(STATEMENT).folder == public_key().id[:16]


def test_a_key_is_read_from_a_file_and_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem())
    text = private_pem().decode()
    expected = signer().sign(STATEMENT)
    assert open_signer(str(path), {}).sign(STATEMENT) == expected
    assert open_signer("env:ACME_KEY", {"ACME_KEY": text}).sign(STATEMENT) == expected
    assert open_signer(None, {"RECONCILE_SIGNING_KEY": text}).sign(STATEMENT) == expected


def test_a_passphrase_comes_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(encrypted("secret-words"))
    opened = open_signer(str(path), {"RECONCILE_SIGNING_PASSWORD": "secret-words"})
    assert isinstance(opened, KeySigner)
    assert opened.key == public_key()
    with pytest.raises(UsageError, match="has a passphrase") as missing:
        open_signer(str(path), {})
    assert missing.value.hint == "set RECONCILE_SIGNING_PASSWORD"
    with pytest.raises(UsageError, match="cannot be opened with that passphrase") as wrong:
        open_signer(str(path), {"RECONCILE_SIGNING_PASSWORD": "other-words"})
    assert "other-words" not in str(wrong.value)


def ed25519_pem() -> bytes:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a private key in PEM"),
        (b"secret-words", "is not a private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is not a private key in PEM"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "in the form of cosign"),
        (public_key().pem, "is not a private key in PEM"),
        (private_pem() + b" " * (1 << 16), "is not a private key in PEM"),
        (ed25519_pem(), "kind Ed25519PublicKey, not ECDSA"),
        (private_pem(9, ec.SECP256K1), "kind secp256k1, not ECDSA"),
    ],
)
def test_a_file_that_is_no_usable_key_is_refused_without_quoting_it(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=message) as raised:
        open_signer(str(path), {})
    assert "secret-words" not in str(raised.value)


def test_a_missing_key_says_where_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no key to sign with"):
        open_signer(None, {})
    with pytest.raises(UsageError, match="cannot read the key"):
        open_signer(str(tmp_path / "none.pem"), {})
    with pytest.raises(UsageError, match="ACME_KEY is not set"):
        open_signer("env:ACME_KEY", {})
    with pytest.raises(UsageError, match="no OIDC identity"):
        open_signer("keyless", {})


def test_a_key_of_a_service_needs_its_library_or_the_service() -> None:
    with pytest.raises(ReconcilerError, match="hsm"):
        open_signer("hsm:2?label=none", {})


@pytest.mark.parametrize("form", ["pem", "der", "certificate"])
def test_a_public_key_is_read_in_every_usual_form(form: str) -> None:
    root = new_authority()
    key = parse_public_key(root.pem, "the certificate")
    data = {"pem": key.pem, "der": key.der, "certificate": root.pem}[form]
    assert parse_public_key(data, "the key") == key


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (private_pem(), "is a private key"),
        (b"", "is not a public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n", "is not a public key"),
        (b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n", "is not a public key"),
        (b"\x30" * (1 << 17), "is not a public key"),
    ],
)
def test_what_is_no_public_key_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_public_key(data, "the key")


def test_the_folder_of_an_identity_depends_on_the_issuer_too() -> None:
    assert identity_folder("a", "b") != identity_folder("a", "c")
