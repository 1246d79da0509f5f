"""The cryptographic functions of age, from the package `cryptography`, which is imported when needed."""

from __future__ import annotations

import hashlib
import hmac
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from reconciler.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_NO_NONCE = bytes(12)  # of a key that encrypts one message
TAG = 16  #: bytes that sealing adds to a message


def hkdf(secret: bytes, *, salt: bytes, info: bytes, size: int) -> bytes:
    """Return `size` bytes of HKDF-SHA-256 (RFC 5869)."""
    key = hmac.digest(salt or bytes(32), secret, "sha256")
    found = block = b""
    number = 1
    while len(found) < size:
        block = hmac.digest(key, block + info + bytes((number,)), "sha256")
        found += block
        number += 1
    return found[:size]


def aead(key: bytes) -> ChaCha20Poly1305:
    """Return ChaCha20-Poly1305 under `key`. Raises UsageError where `cryptography` is not installed."""
    require_cryptography()
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)


def wrap(key: bytes, file_key: bytes) -> bytes:
    """Return `file_key` sealed under `key`, which seals nothing else."""
    return aead(key).encrypt(_NO_NONCE, file_key, None)


def unwrap(key: bytes, body: bytes) -> bytes | None:
    """Return what `wrap` sealed in `body` under `key`, None when it is of another key."""
    from cryptography.exceptions import InvalidTag

    try:
        return aead(key).decrypt(_NO_NONCE, body, None)
    except InvalidTag:
        return None


def public_key(scalar: bytes) -> bytes:
    """Return the X25519 public key of the private key `scalar`, 32 bytes."""
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw()


def exchange(scalar: bytes, public: bytes) -> bytes | None:
    """Return the X25519 shared secret, None for a public key of low order."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    try:
        return X25519PrivateKey.from_private_bytes(scalar).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return None


@cache
def require_cryptography() -> ModuleType:
    """Return the module `cryptography`. Raises UsageError where it is not installed."""
    try:
        import cryptography
    except ImportError:
        raise UsageError(
            "sealed weights need the Python package 'cryptography'",
            hint="install the extra: pip install 'model-reconciler[seal]'",
        ) from None
    return cryptography


_P = 2**255 - 19  # of Curve25519


def montgomery(edwards: bytes) -> bytes | None:
    """Return the X25519 public key of an Ed25519 one (RFC 7748, 4.1); None for a point without one."""
    y = int.from_bytes(edwards, "little") & (1 << 255) - 1
    if y >= _P or y == 1:
        return None
    return ((1 + y) * pow(1 - y, -1, _P) % _P).to_bytes(32, "little")


def ed25519_scalar(seed: bytes) -> bytes:
    """Return the X25519 private key of the Ed25519 key `seed` (RFC 8032, 5.1.5)."""
    return hashlib.sha512(seed).digest()[:32]
