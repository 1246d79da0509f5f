"""Whole age files of a few kilobytes, in memory: binary or in ASCII armor."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence

from reconciler.content.age import header, stream
from reconciler.content.age.errors import AgeError
from reconciler.content.age.keys import Identity, Random, Recipient

_BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
_END = b"-----END AGE ENCRYPTED FILE-----"
_COLUMNS = 64


def encrypt(data: bytes, recipients: Sequence[Recipient], random: Random = os.urandom) -> bytes:
    """Return `data` encrypted to all `recipients`, in armor."""
    file_key = random(header.FILE_KEY)
    head = header.render([recipient.wrap(file_key, random) for recipient in recipients], file_key)
    nonce = random(header.NONCE)
    chunks = bytearray(stream.sealed_size(len(data)))
    cipher, last = stream.payload_cipher(file_key, nonce), stream.chunk_count(len(data)) - 1
    stream.seal_chunks(cipher, 0, memoryview(data), memoryview(chunks), last=last)
    text = base64.b64encode(b"".join((head, nonce, chunks)))
    lines = [text[start : start + _COLUMNS] for start in range(0, len(text), _COLUMNS)]
    return b"\n".join((_BEGIN, *lines, _END, b""))


def decrypt(data: bytes, identities: Sequence[Identity]) -> bytes:
    """Return what is in an age file, with or without armor. Raises AgeError."""
    if data.lstrip().startswith(_BEGIN):
        data = _without_armor(data)
    head = header.parse(data)
    file_key = head.open(identities)
    body = memoryview(data)[head.size :]
    if len(body) < header.NONCE:
        raise AgeError("is cut off")
    cipher = stream.payload_cipher(file_key, bytes(body[: header.NONCE]))
    chunks = body[header.NONCE :]
    found = bytearray(stream.plain_size(len(chunks)))
    last = stream.chunk_count(len(found)) - 1
    stream.open_chunks(cipher, 0, chunks, memoryview(found), last=last)
    return bytes(found)


def _without_armor(data: bytes) -> bytes:
    """Return the bytes in an armor, as strictly as age reads it. Raises AgeError."""
    lines = [line.removesuffix(b"\r") for line in data.strip().split(b"\n")]
    body = lines[1:-1]
    is_regular = all(len(line) == _COLUMNS for line in body[:-1]) and body and 0 < len(body[-1]) <= _COLUMNS
    if lines[0] != _BEGIN or lines[-1] != _END or not is_regular:
        raise AgeError("has a malformed armor")
    text = b"".join(body)
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AgeError("has a malformed armor") from None
    if base64.b64encode(found) != text:
        raise AgeError("has a malformed armor")
    return found
