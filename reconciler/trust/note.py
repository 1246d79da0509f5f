"""Signed notes: a text and the signatures of a log and of its witnesses (C2SP signed-note, tlog-cosignature).

    <text, ends in a line break>
    <blank line>
    — NAME base64(key id[4] ‖ signature)         one line for each signature; the dash is U+2014

    key id           SHA-256(NAME ‖ LF ‖ type ‖ public key)[:4]
    verifier key     NAME+hex(key id)+base64(type ‖ public key)
    private key      PRIVATE+KEY+NAME+hex(key id)+base64(0x01 ‖ seed[32])

Types: 0x01 Ed25519 over the text; 0x04 an Ed25519 and 0x06 an ML-DSA-44 cosignature with a time in seconds
since 1970. Signatures by other keys are ignored; a wrong one by a known key is an error. Keys of Ed25519 and
ML-DSA need `cryptography` (extra `sign`), which is imported when the first signature is made or checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

from reconciler.errors import DataError, UsageError
from reconciler.net.auth import Secret

MAX_NOTE = 1 << 16  #: bytes of a note that is read
MAX_SIGNATURES = 64

_DASH = "\u2014"
_SIGNATURE_LINE = re.compile(rf"{_DASH} ([^\s+]+) ([A-Za-z0-9+/]+={{0,2}})")
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]{1,255}")
_KEY_ID = re.compile(r"[0-9a-f]{8}")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_ED25519_KEY = 32
_ML_DSA_KEY = 1312
_TIME = 8  # bytes of the time in a cosignature
_SUBTREE = b"subtree/v1\n\x00"


class NoteKeyType(IntEnum):
    """What a key signs, as the first byte of a verifier key."""

    ED25519 = 0x01
    COSIGNATURE = 0x04
    ML_DSA_44 = 0x06


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that verifies notes, and the name of who signs with it."""

    name: str
    type: NoteKeyType
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes by which a signature names its key."""
        return hashlib.sha256(f"{self.name}\n".encode() + bytes([self.type]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_encode(bytes([self.type]) + self.public)}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the name and the id of a key, and what it signed with."""

    name: str
    key_id: bytes
    payload: bytes

    def line(self) -> str:
        """Return the line, with its line break."""
        return f"{_DASH} {self.name} {_encode(self.key_id + self.payload)}\n"

    def is_by(self, key: NoteKey) -> bool:
        """Return whether the line names `key`."""
        return self.name == key.name and self.key_id == key.id


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text, which ends in a line break, and its signatures, none of them verified."""

    text: str
    signatures: tuple[NoteSignature, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(each.line() for each in self.signatures)}"

    def encode(self) -> bytes:
        """Return the bytes of the note."""
        return str(self).encode()


def parse_note(data: bytes, what: str = "the note") -> SignedNote:
    """Parse a signed note; errors call it `what`. Raises DataError."""
    if len(data) > MAX_NOTE:
        raise DataError(f"{what} has {len(data)} bytes; at most {MAX_NOTE} are read")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{what} is not UTF-8") from None
    text, blank, lines = whole.rpartition("\n\n")
    if _CONTROLS.search(whole) or not blank or not lines.endswith("\n"):
        raise DataError(f"{what} is not a signed note")
    return SignedNote(f"{text}\n", parse_signatures(lines, what))


def parse_signatures(lines: str, what: str = "the answer") -> tuple[NoteSignature, ...]:
    """Parse signature lines; the text `what` names them in errors. Raises DataError."""
    found = []
    for line in lines.splitlines()[: MAX_SIGNATURES + 1]:
        match = _SIGNATURE_LINE.fullmatch(line)
        raw = _decode(match[2]) if match is not None else None
        if match is None or raw is None or len(raw) < 5:
            raise DataError(f"{what} has a malformed signature line")
        found.append(NoteSignature(match[1], raw[:4], raw[4:]))
    if not found or len(found) > MAX_SIGNATURES:
        raise DataError(f"{what} has {len(found) or 'no'} signatures; 1 to {MAX_SIGNATURES} are read")
    return tuple(found)


def parse_note_key(text: str) -> NoteKey:
    """Parse a verifier key. Raises UsageError; a private key is never shown."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    if name == "PRIVATE":
        raise UsageError("a private key was given in place of a verifier key", hint="use the public one")
    raw = _decode(encoded) or b""
    sizes = {NoteKeyType.ED25519: _ED25519_KEY, NoteKeyType.COSIGNATURE: _ED25519_KEY}
    sizes[NoteKeyType.ML_DSA_44] = _ML_DSA_KEY
    if not _NAME.fullmatch(name) or not _KEY_ID.fullmatch(key_id) or len(raw) < 2:
        raise UsageError(
            f"{text[:80]!r} is not a verifier key", hint="write NAME+HASH+KEY, as its owner published it"
        )
    if raw[0] not in set(sizes) or len(raw) - 1 != sizes[NoteKeyType(raw[0])]:
        raise UsageError(f"the verifier key of {name!r} is of an unsupported type")
    key = NoteKey(name, NoteKeyType(raw[0]), raw[1:])
    if key.id.hex() != key_id:
        raise UsageError(
            f"the verifier key of {name!r} does not match its hash {key_id}", hint="copy it again"
        )
    return key


class NoteSigner:
    """A private Ed25519 key of a log. It never appears in text and cannot be pickled."""

    __slots__ = ("_seed", "key")

    def __init__(self, name: str, seed: Secret) -> None:
        self._seed = seed
        self.key = NoteKey(name, NoteKeyType.ED25519, _private(seed).public_key().public_bytes_raw())

    def sign(self, text: str) -> NoteSignature:
        """Return the signature of a text that ends in a line break."""
        return NoteSignature(self.key.name, self.key.id, _private(self._seed).sign(text.encode()))

    def __repr__(self) -> str:
        return f"NoteSigner({self.key.name})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled")


def parse_note_signer(secret: Secret, what: str) -> NoteSigner:
    """Open a private key; `what` names its place in errors, which never show it. Raises UsageError."""
    text = secret.reveal().strip()
    name, _, rest = text.removeprefix("PRIVATE+KEY+").partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = _decode(encoded) or b""
    if text.startswith("PRIVATE+KEY+") and _NAME.fullmatch(name) and len(raw) == 33 and raw[0] == 1:
        signer = NoteSigner(name, Secret(raw[1:].hex()))
        if signer.key.id.hex() == key_id:
            return signer
    raise UsageError(f"{what} is not a private key of a log", hint="`reconcile audit key` makes one")


def new_note_key(name: str) -> tuple[Secret, NoteKey]:
    """Make a key for the log `name`: the text of the private one, and the public one. Raises UsageError."""
    import secrets

    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a log", hint="use a name like example.org/models, without '+' and spaces"
        )
    seed = secrets.token_bytes(32)
    key = NoteSigner(name, Secret(seed.hex())).key
    return Secret(f"PRIVATE+KEY+{name}+{key.id.hex()}+{_encode(bytes([key.type]) + seed)}"), key


# --- verifying


def is_signed_by(note: SignedNote, key: NoteKey) -> bool:
    """Return whether `note` has a signature by `key`. Raises DataError when there is one that is wrong."""
    lines = [each for each in note.signatures if each.is_by(key)]
    for each in lines:
        if not _is_good(note.text, each.payload, key):
            raise DataError(f"the signature of {key.name} is wrong: the note was altered after it was signed")
    return bool(lines)


def signers_among(note: SignedNote, keys: Iterable[NoteKey]) -> tuple[NoteKey, ...]:
    """Return which of `keys` signed `note`, each once. Raises DataError for a wrong signature by one."""
    return tuple(key for key in dict.fromkeys(keys) if is_signed_by(note, key))


def with_signatures(note: SignedNote, more: Sequence[NoteSignature]) -> SignedNote:
    """Return `note` with the signatures `more` in place of older ones by the same keys."""
    named = {(each.name, each.key_id) for each in more}
    kept = [each for each in note.signatures if (each.name, each.key_id) not in named]
    return SignedNote(note.text, (*kept, *more))


def _is_good(text: str, payload: bytes, key: NoteKey) -> bool:
    message, signature = text.encode(), payload
    if key.type is not NoteKeyType.ED25519:
        time, signature = payload[:_TIME], payload[_TIME:]
        if len(time) != _TIME:
            return False
        seconds = int.from_bytes(time, "big")
        if key.type is NoteKeyType.COSIGNATURE:
            message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
        else:
            found = _subtree_message(text, key.name, time)
            if found is None:
                return False
            message = found
    return _verified(key, signature, message)


def _subtree_message(text: str, cosigner: str, time: bytes) -> bytes | None:
    """Return what an ML-DSA cosignature of a checkpoint signs; None for a text that is not a checkpoint."""
    lines = text.split("\n")
    root = _decode(lines[2]) if len(lines) == 4 else None
    if root is None or len(root) != 32 or not lines[1].isdecimal():
        return None
    names = [name.encode() for name in (cosigner, lines[0])]
    if not all(0 < len(name) < 256 for name in names):
        return None
    first, origin = (bytes([len(name)]) + name for name in names)
    return _SUBTREE + first + time + origin + bytes(8) + int(lines[1]).to_bytes(8, "big") + root


def _verified(key: NoteKey, signature: bytes, message: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise _without_library() from None
    try:
        if key.type is NoteKeyType.ML_DSA_44:
            try:
                from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
            except ImportError:
                raise _without_ml_dsa(key) from None
            MLDSA44PublicKey.from_public_bytes(key.public).verify(signature, message)
        else:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except UnsupportedAlgorithm:
        raise _without_ml_dsa(key) from None
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(seed: Secret):  # type: ignore[no-untyped-def] # of a library that is imported when needed
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise _without_library() from None
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed.reveal()))


def _without_library() -> UsageError:
    return UsageError(
        "signatures of an audit log need the extra `sign`", hint="pip install 'model-reconciler[sign]'"
    )


def _without_ml_dsa(key: NoteKey) -> UsageError:
    return UsageError(
        f"the key of {key.name} is for ML-DSA, which the installed version of cryptography does not support",
        hint="pip install --upgrade 'model-reconciler[sign]'",
    )


# --- base64


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes | None:
    """Return the bytes of canonical, padded base64; None for anything else."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _encode(data) == text else None


def encode_hash(data: bytes) -> str:
    """Return bytes in padded base64."""
    return _encode(data)


def decode_hash(text: str, what: str) -> bytes:
    """Return the 32 bytes of a hash in canonical base64; `what` names it in errors. Raises DataError."""
    found = _decode(text)
    if found is None or len(found) != 32:
        raise DataError(f"{what} is not a hash of 32 bytes in base64")
    return found
