"""Public keys and the signatures they verify: ECDSA on P-256, P-384 and P-521, as Model Signing 1.0 has it.

A key is identified by the SHA-256 of its SubjectPublicKeyInfo, so one key in two spellings is one key. All
functions need `cryptography`, which they import.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.errors import DataError, ReconcilerError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

MAX_KEY = 1 << 16  #: bytes of a file with a key
_HINT = "create one with `openssl ecparam -genkey -name prime256v1 -noout`"


class SignatureError(DataError):
    """A signature, its key or its certificate does not verify a statement."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: its SubjectPublicKeyInfo in DER, and its PEM."""

    der: bytes
    pem: bytes

    @property
    def id(self) -> str:
        """The SHA-256 of the DER, in hex."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """The hint of Model Signing bundles: the SHA-256 of the PEM with its final newline, in hex."""
        return hashlib.sha256(self.pem).hexdigest()

    def __str__(self) -> str:
        return f"key {self.id[:16]}"


def require_cryptography() -> None:
    """Raise ReconcilerError when the library for signatures is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ReconcilerError(
            "signatures need the package cryptography, which is not installed",
            hint="pip install 'model-reconciler[sign]'",
        ) from None


def parse_public_key(data: bytes, name: str) -> PublicKey:
    """Parse a public key or a certificate in PEM, or a public key in DER; errors call it `name`.

    Raises DataError for anything else, and for a key on another curve.
    """
    require_cryptography()
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        if len(data) > MAX_KEY:
            raise ValueError("too large")
        if b"PRIVATE KEY-----" in data:
            raise DataError(f"{name} is a private key", hint="name the file with its public key")
        if b"-----BEGIN CERTIFICATE-----" in data:
            key: object = x509.load_pem_x509_certificate(data).public_key()
        elif b"-----BEGIN " in data:  # some programs write a description before it
            key = serialization.load_pem_public_key(data)
        else:
            key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise DataError(f"{name} is not a public key in PEM or DER", hint=_HINT) from None
    return describe_key(key, name)


def describe_key(key: object, name: str) -> PublicKey:
    """Return a key of the library as a value. Raises DataError for one that cannot sign releases."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise DataError(f"{name} is a key of the kind {kind}, not ECDSA on P-256, P-384 or P-521", hint=_HINT)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return PublicKey(
        key.public_bytes(serialization.Encoding.DER, form), key.public_bytes(serialization.Encoding.PEM, form)
    )


_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}


def hash_for(key: ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) -> HashAlgorithm:
    """Return the hash that signatures of this key use."""
    from cryptography.hazmat.primitives import hashes

    algorithm: HashAlgorithm = getattr(hashes, _HASHES[key.curve.name])()
    return algorithm


def verify_signature(key: PublicKey, signature: bytes, signed: bytes) -> None:
    """Verify an ECDSA signature in DER over `signed`. Raises SignatureError."""
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    loaded = serialization.load_der_public_key(key.der)
    assert isinstance(loaded, ec.EllipticCurvePublicKey)  # noqa: S101 - `describe_key` checked it
    try:
        loaded.verify(signature, signed, ec.ECDSA(hash_for(loaded)))
    except InvalidSignature:
        raise SignatureError(f"the signature is not one of {key}") from None
