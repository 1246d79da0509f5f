"""Recipients and identities of age: X25519 keys of age itself, and ssh-ed25519 keys.

No message of this module quotes a private key, and none of its values prints one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.content.age import bech32
from reconciler.content.age.errors import AgeKeyError
from reconciler.content.age.primitives import (
    ed25519_scalar,
    exchange,
    hkdf,
    montgomery,
    public_key,
    require_cryptography,
    unwrap,
    wrap,
)
from reconciler.content.age.stanza import Stanza, decode_base64, encode_base64

KEY_SIZE = 32
SECRET_PREFIX = "AGE-SECRET-KEY-1"  # noqa: S105 - what secrets begin with

_X25519 = "X25519"
_X25519_INFO = b"age-encryption.org/v1/X25519"
_SSH = "ssh-ed25519"
_SSH_INFO = b"age-encryption.org/v1/ssh-ed25519"
_SSH_BEGIN = "-----BEGIN OPENSSH PRIVATE KEY-----"
_SSH_END = "-----END OPENSSH PRIVATE KEY-----"
_WRAPPED = 32  # bytes of a wrapped file key
_KINDS = "age1… and ssh-ed25519"

Random = Callable[[int], bytes]


class Recipient(Protocol):
    """A public key that an age file can be encrypted to."""

    @property
    def text(self) -> str:
        """The key as a person writes it, without a comment."""

    def wrap(self, file_key: bytes, random: Random = os.urandom) -> Stanza:
        """Return the stanza that gives `file_key` to the holder of the private key."""


class Identity(Protocol):
    """A private key."""

    @property
    def recipient(self) -> Recipient:
        """Its public key."""

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """Return the file key in `stanza`, None when it is for another key."""


@dataclass(frozen=True, slots=True)
class AgeRecipient:
    """An X25519 public key, `age1…`."""

    key: bytes

    @property
    def text(self) -> str:
        """As `Recipient.text`."""
        return bech32.encode("age", self.key)

    def wrap(self, file_key: bytes, random: Random = os.urandom) -> Stanza:
        """As `Recipient.wrap`; `random` gives the ephemeral private key."""
        ephemeral = random(KEY_SIZE)
        share, shared = public_key(ephemeral), exchange(ephemeral, self.key)
        if shared is None:
            raise AgeKeyError(f"the recipient {self.text!r} is a key of low order")
        key = hkdf(shared, salt=share + self.key, info=_X25519_INFO, size=KEY_SIZE)
        return Stanza(_X25519, (encode_base64(share),), wrap(key, file_key))


@dataclass(frozen=True, slots=True)
class AgeIdentity:
    """An X25519 private key, `AGE-SECRET-KEY-1…`."""

    scalar: bytes = field(repr=False)
    public: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", public_key(self.scalar))

    @property
    def recipient(self) -> AgeRecipient:
        """As `Identity.recipient`."""
        return AgeRecipient(self.public)

    @property
    def text(self) -> str:
        """The private key as age writes it."""
        return bech32.encode(SECRET_PREFIX[:-1].lower(), self.scalar).upper()

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """As `Identity.unwrap`."""
        if stanza.kind != _X25519 or len(stanza.arguments) != 1 or len(stanza.body) != _WRAPPED:
            return None
        share = decode_base64(stanza.arguments[0])
        if share is None or len(share) != KEY_SIZE or (shared := exchange(self.scalar, share)) is None:
            return None
        key = hkdf(shared, salt=share + self.public, info=_X25519_INFO, size=KEY_SIZE)
        return unwrap(key, stanza.body)


@dataclass(frozen=True, slots=True)
class SshRecipient:
    """An Ed25519 public key, as a line of `id_ed25519.pub`."""

    key: bytes

    @property
    def text(self) -> str:
        """As `Recipient.text`."""
        return f"{_SSH} {base64.b64encode(_ssh_wire(self.key)).decode()}"

    def wrap(self, file_key: bytes, random: Random = os.urandom) -> Stanza:
        """As `Recipient.wrap`; `random` gives the ephemeral private key."""
        ephemeral, public = random(KEY_SIZE), _curve_key(self.key)
        wire, share = _ssh_wire(self.key), public_key(ephemeral)
        shared = _tweaked(wire, exchange(ephemeral, public))
        if shared is None:
            raise AgeKeyError(f"the recipient {self.text!r} is a key of low order")
        key = hkdf(shared, salt=share + public, info=_SSH_INFO, size=KEY_SIZE)
        return Stanza(_SSH, (_ssh_tag(wire), encode_base64(share)), wrap(key, file_key))


@dataclass(frozen=True, slots=True)
class SshIdentity:
    """An Ed25519 private key of OpenSSH without a passphrase."""

    seed: bytes = field(repr=False)
    public: bytes

    @property
    def recipient(self) -> SshRecipient:
        """As `Identity.recipient`."""
        return SshRecipient(self.public)

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """As `Identity.unwrap`."""
        wire = _ssh_wire(self.public)
        if stanza.kind != _SSH or len(stanza.arguments) != 2 or len(stanza.body) != _WRAPPED:
            return None
        share = decode_base64(stanza.arguments[1])
        if stanza.arguments[0] != _ssh_tag(wire) or share is None or len(share) != KEY_SIZE:
            return None
        shared = _tweaked(wire, exchange(ed25519_scalar(self.seed), share))
        if shared is None:
            return None
        key = hkdf(shared, salt=share + _curve_key(self.public), info=_SSH_INFO, size=KEY_SIZE)
        return unwrap(key, stanza.body)


def parse_recipient(text: str) -> Recipient:
    """Return the recipient in one line. Raises AgeKeyError."""
    words = text.split()
    if not words:
        raise AgeKeyError("a recipient is empty", hint=f"recipients are {_KINDS} keys")
    if words[0] == _SSH:
        return _ssh_recipient(words)
    if words[0].upper().startswith(SECRET_PREFIX):
        raise AgeKeyError(
            "a recipient is a private key",
            hint="write its public key, which begins with age1, and make a new pair: this one is known",
        )
    if words[0].startswith("age1") and len(words) == 1:
        try:
            prefix, key = bech32.decode(words[0])
        except ValueError as error:
            raise AgeKeyError(f"the recipient {words[0][:80]!r} {error}") from None
        if prefix == "age" and len(key) == KEY_SIZE:
            return AgeRecipient(key)
    raise AgeKeyError(
        f"the recipient {text.strip()[:80]!r} is of no supported kind", hint=f"recipients are {_KINDS} keys"
    )


def parse_recipients(text: str) -> Iterator[Recipient]:
    """Yield the recipients of a file: one a line, `#` begins a comment.

    Raises AgeKeyError with the number of the line, which is not quoted: the file may be another one.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if (line := line.strip()) and not line.startswith("#"):
            try:
                yield parse_recipient(line)
            except AgeKeyError:
                raise AgeKeyError(
                    f"line {number} is not a public key of a supported kind",
                    hint=f"recipients are {_KINDS} keys",
                ) from None


def parse_identities(text: str) -> list[Identity]:
    """Return the private keys of an identity file as age writes it, and of OpenSSH key files in it.

    Raises AgeKeyError with the line, and where there is none.
    """
    found: list[Identity] = []
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line == _SSH_BEGIN:
            found.append(_ssh_identity([line, *_until(lines, _SSH_END)], number))
        elif line.startswith("AGE-"):
            found.append(_age_identity(line, number))
        else:
            raise AgeKeyError(
                f"line {number} is not a private key",
                hint="give an identity file of age, or an ssh-ed25519 key without a passphrase",
            )
    if not found:
        raise AgeKeyError("there is no private key", hint="`age-keygen` makes one")
    return found


def _age_identity(line: str, number: int) -> AgeIdentity:
    if not line.startswith(SECRET_PREFIX):
        raise AgeKeyError(
            f"the private key in line {number} is of a kind that is not supported",
            hint="use a key that `age-keygen` makes without options",
        )
    try:
        _, scalar = bech32.decode(line)
    except ValueError as error:
        raise AgeKeyError(f"the private key in line {number} {error}") from None
    if len(scalar) != KEY_SIZE:
        raise AgeKeyError(f"the private key in line {number} has {len(scalar)} bytes, not {KEY_SIZE}")
    return AgeIdentity(scalar)


def _ssh_recipient(words: list[str]) -> SshRecipient:
    try:
        wire = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        wire = b""
    key = wire[-KEY_SIZE:]
    if len(key) != KEY_SIZE or wire != _ssh_wire(key) or montgomery(key) is None:
        raise AgeKeyError("a recipient is not an ssh-ed25519 key", hint="copy the line of the .pub file")
    return SshRecipient(key)


def _ssh_identity(lines: Iterable[str], number: int) -> SshIdentity:
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        key = load_ssh_private_key(("\n".join(lines) + "\n").encode(), password=None)
    except Exception:  # noqa: BLE001 - several kinds, whose texts may quote the key
        raise AgeKeyError(
            f"the OpenSSH key in line {number} cannot be read",
            hint="a key with a passphrase is not supported: copy it without one, or use `age-keygen`",
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise AgeKeyError(f"the OpenSSH key in line {number} is not of the kind ssh-ed25519")
    return SshIdentity(key.private_bytes_raw(), key.public_key().public_bytes_raw())


def _until(lines: Iterator[tuple[int, str]], end: str) -> Iterator[str]:
    for _, line in lines:
        yield line.strip()
        if line.strip() == end:
            return


def _ssh_wire(key: bytes) -> bytes:
    """Return the public key as in RFC 4253, 6.6."""
    name = _SSH.encode()
    return len(name).to_bytes(4, "big") + name + len(key).to_bytes(4, "big") + key


def _ssh_tag(wire: bytes) -> str:
    return encode_base64(hashlib.sha256(wire).digest()[:4])


def _curve_key(key: bytes) -> bytes:
    found = montgomery(key)
    if found is None:
        raise AgeKeyError("an ssh-ed25519 key is not a point of its curve")
    return found


def _tweaked(wire: bytes, shared: bytes | None) -> bytes | None:
    tweak = hkdf(b"", salt=wire, info=_SSH_INFO, size=KEY_SIZE)
    return None if shared is None else exchange(tweak, shared)
