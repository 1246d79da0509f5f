"""Private keys that sign statements: from a file, the environment, a hardware token or a key service.

| key | where the private key is |
|---|---|
| a path | a PEM file; with a passphrase, that of RECONCILE_SIGNING_PASSWORD |
| `env:NAME` | PEM in the environment variable NAME |
| `hsm:KEYID?label=TOKEN` | a PKCS#11 token; PYKCS11LIB names its module, and the passphrase is its PIN |
| `awskms:`, `gcpkms:`, `azurekms:` | a key service, by the name of the key there |
| `keyless` | none is kept: a certificate for the OIDC identity of this job |

Without a name, RECONCILE_SIGNING_KEY is used when it is set, else the identity of a job in GitHub Actions.
ECDSA signatures of a key on this machine follow RFC 6979, so the same release gives the same bytes. Keys
elsewhere are reached through `securesystemslib`. Libraries are imported by the functions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

from reconciler.errors import DataError, PeerError, ReconcilerError, UsageError
from reconciler.trust import dsse
from reconciler.trust.certificates import certified_identity
from reconciler.trust.dsse import SignatureBundle
from reconciler.trust.public_keys import (
    MAX_KEY,
    PublicKey,
    SignatureError,
    describe_key,
    hash_for,
    require_cryptography,
    verify_signature,
)

KEY_VARIABLE = "RECONCILE_SIGNING_KEY"
PASSWORD_VARIABLE = "RECONCILE_SIGNING_PASSWORD"  # noqa: S105 - the name of a variable
_SERVICES = ("hsm", "awskms", "gcpkms", "azurekms")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASK_FOR_KEY = (
    "name a key with --key, or set RECONCILE_SIGNING_KEY; in GitHub Actions, allow `id-token: write`"
)


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """The bundle of a statement (JSON), who signed it, and the folder of that signer below a version."""

    signer: str
    folder: str
    bundle: bytes


class StatementSigner(Protocol):
    """What signs statements."""

    def sign(self, statement: bytes) -> SignedStatement:
        """Sign an in-toto statement. Raises ReconcilerError."""

    def made(self, bundle: SignatureBundle) -> str:
        """Return the name of this signer when it made `bundle`, "" when another did."""


def key_folder(key: PublicKey) -> str:
    """Return the name of the folder with the signatures of a key: 16 hex digits."""
    return key.id[:16]


def identity_folder(identity: str, issuer: str) -> str:
    """Return the name of the folder with the signatures of an identity: 16 hex digits."""
    return hashlib.sha256(f"{issuer}\n{identity}".encode()).hexdigest()[:16]


class KeySigner:
    """A signer with one key; `sign_bytes` makes an ECDSA signature in DER."""

    def __init__(self, key: PublicKey, sign_bytes: Callable[[bytes], bytes]) -> None:
        self.key = key
        self._sign = sign_bytes

    def sign(self, statement: bytes) -> SignedStatement:
        """As `StatementSigner.sign`."""
        signature = self._sign(dsse.pre_authentication_encoding(statement))
        bundle = dsse.render_bundle(statement, signature, self.key.hint)
        return SignedStatement(str(self.key), key_folder(self.key), bundle)

    def made(self, bundle: SignatureBundle) -> str:
        """As `StatementSigner.made`."""
        try:
            verify_signature(self.key, bundle.signature, bundle.signed)
        except SignatureError:
            return ""
        return str(self.key)


class IdentitySigner:
    """A signer with an OIDC identity; `sign_statement` returns a bundle with a certificate by `issuer`."""

    def __init__(self, sign_statement: Callable[[bytes], bytes], issuer: str) -> None:
        self._sign = sign_statement
        self._issuer = issuer

    def sign(self, statement: bytes) -> SignedStatement:
        """As `StatementSigner.sign`."""
        bundle = self._sign(statement)
        identity, issuer = certified_identity(dsse.parse_bundle(bundle, limit=len(bundle)).certificates[0])
        return SignedStatement(identity, identity_folder(identity, issuer), bundle)

    def made(self, bundle: SignatureBundle) -> str:
        """As `StatementSigner.made`; which workflow signs is known only once it did, its issuer before."""
        if not bundle.certificates or not bundle.logged:
            return ""
        identity, issuer = certified_identity(bundle.certificates[0])
        return identity if issuer == self._issuer else ""


def open_signer(name: str | None, environ: Mapping[str, str]) -> StatementSigner:
    """Return the signer that `name` means, as in the table of this module.

    Raises UsageError when there is none or it cannot be read, PeerError when a key service fails.
    """
    require_cryptography()
    if name is None:
        if environ.get(KEY_VARIABLE):
            name = f"env:{KEY_VARIABLE}"
        elif environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
            name = "keyless"
        else:
            raise UsageError("there is no key to sign with", hint=_ASK_FOR_KEY)
    if name == "keyless":
        from reconciler.trust.keyless import KeylessSigner

        keyless = KeylessSigner()
        return IdentitySigner(keyless.sign, keyless.issuer)
    scheme, _, rest = name.partition(":")
    password = environ.get(PASSWORD_VARIABLE)
    if scheme == "env" and _VARIABLE.fullmatch(rest):
        text = environ.get(rest)
        if not text:
            raise UsageError(f"{rest} is not set", hint="it should have a private key in PEM")
        return parse_private_key(text.encode(), rest, password)
    if scheme in _SERVICES:
        return _service_signer(scheme, rest, password)
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_KEY + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read the key {name!r}: {(error.strerror or str(error)).lower()}", hint=_ASK_FOR_KEY
        ) from None
    return parse_private_key(data, repr(name), password)


def parse_private_key(data: bytes, name: str, password: str | None) -> KeySigner:
    """Return the signer with a private key in PEM; errors call it `name` and never quote it.

    Raises UsageError for anything else, a key on another curve, and a wrong or missing passphrase.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if b"-----BEGIN ENCRYPTED SIGSTORE" in data or b"-----BEGIN ENCRYPTED COSIGN" in data:
        raise UsageError(
            f"{name} is a private key in the form of cosign", hint="convert it to PKCS#8, or create one"
        )
    encrypted = b"-----BEGIN ENCRYPTED" in data or b"Proc-Type: 4,ENCRYPTED" in data
    if encrypted and not password:
        raise UsageError(f"{name} has a passphrase", hint=f"set {PASSWORD_VARIABLE}")
    try:
        if len(data) > MAX_KEY:
            raise ValueError("too large")
        key = serialization.load_pem_private_key(data, password.encode() if encrypted and password else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = "cannot be opened with that passphrase" if encrypted else "is not a private key in PEM"
        raise UsageError(
            f"{name} {what}", hint="create one with `openssl ecparam -genkey -name prime256v1 -noout`"
        ) from None
    try:
        public = describe_key(key.public_key(), name)
    except DataError as error:
        raise UsageError(error.message, hint=error.hint) from None
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - `describe_key` checked its public half
    private = key

    def sign(data: bytes) -> bytes:
        algorithm = hash_for(private)
        try:
            return private.sign(data, ec.ECDSA(algorithm, deterministic_signing=True))
        except UnsupportedAlgorithm:  # an OpenSSL before 3.2: the signature is as good, and not repeatable
            return private.sign(data, ec.ECDSA(algorithm))

    return KeySigner(public, sign)


def _service_signer(scheme: str, rest: str, password: str | None) -> KeySigner:
    """Return the signer with a key in a token or a key service."""
    try:
        import securesystemslib.signer
        from securesystemslib.exceptions import UnsupportedLibraryError
    except ImportError:
        raise ReconcilerError(
            f"keys of {scheme} need the package securesystemslib, which is not installed",
            hint=f"pip install 'securesystemslib[{scheme}]'",
        ) from None
    services: Any = securesystemslib.signer  # which exports its signers without naming them
    path, _, query = rest.partition("?")
    label = dict(parse_qsl(query)).get("label")

    def pin(_: str) -> str:
        if not password:
            raise ValueError(f"{PASSWORD_VARIABLE}, which should have the PIN, is not set")
        return password

    try:
        if scheme == "hsm":
            uri, found = services.HSMSigner.import_(int(path) if path else None, label, pin)
        elif scheme == "awskms":
            uri, found = services.AWSSigner.import_(path)
        elif scheme == "gcpkms":
            uri, found = services.GCPSigner.import_(path)
        else:
            vault, _, key_name = path.strip("/").partition("/")
            uri, found = services.AzureSigner.import_(vault, key_name)
        opened = services.Signer.from_priv_key_uri(uri, found, pin)
        public = _public_key(str(found.keyval["public"]), f"{scheme}:{path}")
    except UnsupportedLibraryError as error:
        raise ReconcilerError(
            f"keys of {scheme} need another package: {error}",
            hint=f"pip install 'securesystemslib[{scheme}]'",
        ) from None
    except DataError as error:
        raise UsageError(error.message, hint=error.hint) from None
    except Exception as error:  # noqa: BLE001 - each service raises errors of its own library
        raise PeerError(f"the key {scheme}:{path} cannot be opened: {_reason(error)}") from None

    def sign(data: bytes) -> bytes:
        try:
            return bytes.fromhex(opened.sign(data).signature)
        except Exception as error:  # noqa: BLE001 - as above
            raise PeerError(f"the key {scheme}:{path} did not sign: {_reason(error)}") from None

    return KeySigner(public, sign)


def _public_key(pem: str, name: str) -> PublicKey:
    from cryptography.hazmat.primitives import serialization

    return describe_key(serialization.load_pem_public_key(pem.encode()), name)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
