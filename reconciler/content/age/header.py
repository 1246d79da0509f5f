"""The header of an age file: stanzas, each of which wraps the file key for one recipient, and a MAC."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.content.age.errors import AgeError, NotForIdentityError
from reconciler.content.age.keys import Identity
from reconciler.content.age.primitives import hkdf
from reconciler.content.age.stanza import Stanza, decode_base64, encode_base64

VERSION = b"age-encryption.org/v1\n"
FILE_KEY = 16  #: bytes
NONCE = 16  #: bytes of the nonce between header and chunks
MAX_SIZE = 1 << 16  #: bytes of the longest header that is read; one with a single X25519 stanza has 168

_COLUMNS = 64
_ARGUMENT = re.compile(rb"[\x21-\x7e]+")
_MAC = 32


@dataclass(frozen=True, slots=True)
class AgeHeader:
    """A header as read: its stanzas, `signed`, the bytes under its MAC, and its `size` in bytes."""

    stanzas: tuple[Stanza, ...]
    signed: bytes
    mac: bytes
    size: int

    def open(self, identities: Sequence[Identity]) -> bytes:
        """Return the file key. Raises NotForIdentityError, and AgeError when the header was altered."""
        if any(stanza.kind == "scrypt" for stanza in self.stanzas):
            raise AgeError("is encrypted with a passphrase", hint="decrypt it with the program `age`")
        for identity in identities:
            for stanza in self.stanzas:
                key = identity.unwrap(stanza)
                if key is None:
                    continue
                if len(key) != FILE_KEY or not hmac.compare_digest(_mac(key, self.signed), self.mac):
                    raise AgeError("has a header that was altered")
                return key
        raise NotForIdentityError("is sealed for other keys")


def render(stanzas: Sequence[Stanza], file_key: bytes) -> bytes:
    """Return the header with `stanzas` under the MAC of `file_key`."""
    lines = [VERSION]
    for stanza in stanzas:
        lines.append(f"-> {' '.join((stanza.kind, *stanza.arguments))}\n".encode())
        body = encode_base64(stanza.body).encode()
        starts = range(0, len(body) + 1, _COLUMNS)  # a full last line is followed by an empty one
        lines += [body[start : start + _COLUMNS] + b"\n" for start in starts]
    signed = b"".join(lines) + b"---"
    return signed + b" " + encode_base64(_mac(file_key, signed)).encode() + b"\n"


def parse(data: bytes) -> AgeHeader:
    """Parse the header at the beginning of `data`, which may be longer or be cut at MAX_SIZE bytes.

    Raises AgeError.
    """
    if not data.startswith(VERSION):
        raise AgeError("is not an age file")
    lines = _Lines(data, len(VERSION))
    stanzas: list[Stanza] = []
    while True:
        begin = lines.at
        line = lines.next()
        if line.startswith(b"--- "):
            break
        if not line.startswith(b"-> "):
            raise _malformed()
        words = line[3:].split(b" ")
        if not all(map(_ARGUMENT.fullmatch, words)):
            raise _malformed()
        kind, *arguments = (word.decode() for word in words)
        stanzas.append(Stanza(kind, tuple(arguments), _body(lines)))
    mac = decode_base64(line[4:])
    if not stanzas or mac is None or len(mac) != _MAC:
        raise _malformed()
    if len(stanzas) > 1 and any(stanza.kind == "scrypt" for stanza in stanzas):
        raise _malformed()
    return AgeHeader(tuple(stanzas), data[: begin + 3], mac, lines.at)


def _mac(file_key: bytes, signed: bytes) -> bytes:
    key = hkdf(file_key, salt=b"", info=b"header", size=32)
    return hmac.digest(key, signed, "sha256")


def _body(lines: _Lines) -> bytes:
    """Read the body of a stanza: full lines, and a shorter one, which may be empty."""
    text = bytearray()
    while True:
        line = lines.next()
        if len(line) > _COLUMNS:
            raise _malformed()
        text += line
        if len(line) < _COLUMNS:
            break
    data = decode_base64(bytes(text))
    if data is None:
        raise _malformed()
    return data


class _Lines:
    """The lines of a header from `at` on."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def next(self) -> bytes:
        end = self._data.find(b"\n", self.at, MAX_SIZE)
        if end < 0:
            raise AgeError(
                f"has a header of more than {MAX_SIZE} bytes"
                if len(self._data) >= MAX_SIZE
                else "ends in its header"
            )
        line = self._data[self.at : end]
        self.at = end + 1
        return line


def _malformed() -> AgeError:
    return AgeError("has a malformed header")
