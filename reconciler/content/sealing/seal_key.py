"""The key of a model, and what is derived from it: the random values of each age file, and hidden names.

An age file needs a file key, an ephemeral key and a nonce that nothing else has. Here they are pseudo-random
functions of the path of the file and of the SHA-256 of its bytes, so the same file is sealed into the same
bytes, and two different files never share them. They cannot be computed without the key, which also
keeps a guess of the bytes from being confirmed.

All are HKDF-SHA-256 of the 32 bytes of the identity, with the salt `reconcile/seal/v1`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.content.age import header
from reconciler.content.age.keys import KEY_SIZE, AgeIdentity
from reconciler.content.age.primitives import hkdf

_SALT = b"reconcile/seal/v1"
_ID = 8  # bytes
_NAME = 16


@dataclass(frozen=True, slots=True)
class SealInputs:
    """How a bundle was sealed: under which `generation` of its model's key, and whether names are hidden.

    `key` is the id of the key: 16 hex digits that say nothing about it.
    """

    generation: int
    key: str
    hides_names: bool = False


@dataclass(frozen=True, slots=True)
class FileSecrets:
    """The values of one age file that are random in other age files."""

    file_key: bytes = field(repr=False)
    ephemeral: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealKey:
    """One generation of the key of a model: an age identity."""

    identity: AgeIdentity

    @property
    def id(self) -> str:
        """Its id, see `SealInputs`."""
        return self._derive(b"id", b"", _ID).hex()

    def file_secrets(self, path: str, sha256: bytes) -> FileSecrets:
        """Return the secrets of the file at `path` of a bundle whose bytes have this digest."""
        name = path.encode()
        context = len(name).to_bytes(4, "big") + name + sha256
        found = self._derive(b"file", context, header.FILE_KEY + KEY_SIZE + header.NONCE)
        key, rest = found[: header.FILE_KEY], found[header.FILE_KEY :]
        return FileSecrets(key, rest[:KEY_SIZE], rest[KEY_SIZE:])

    def hidden_name(self, path: str) -> str:
        """Return the name, without a suffix, that hides that of the file at `path`."""
        return self._derive(b"name", path.encode(), _NAME).hex()

    def _derive(self, label: bytes, context: bytes, size: int) -> bytes:
        return hkdf(self.identity.scalar, salt=_SALT, info=label + b"\0" + context, size=size)
