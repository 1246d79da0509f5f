"""The payload of an age file: chunks of 64 KiB, each sealed under its number, the last one marked as such."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.content.age.errors import AgeError
from reconciler.content.age.primitives import TAG, aead, hkdf

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

CHUNK = 1 << 16  #: bytes of plain text of every chunk but the last
SEALED_CHUNK = CHUNK + TAG


def payload_cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    """Return the cipher of the chunks of a file."""
    return aead(hkdf(file_key, salt=nonce, info=b"payload", size=32))


def chunk_count(size: int) -> int:
    """Return the number of chunks of `size` bytes of plain text; nothing has one."""
    return max(1, -(-size // CHUNK))


def sealed_size(size: int) -> int:
    """Return the bytes of the chunks of `size` bytes of plain text."""
    return size + TAG * chunk_count(size)


def plain_size(size: int) -> int:
    """Return the bytes of plain text in `size` bytes of chunks. Raises AgeError for an impossible size."""
    count = -(-size // SEALED_CHUNK)
    last = size - (count - 1) * SEALED_CHUNK
    if count < 1 or last < TAG or (last == TAG and count > 1):
        raise AgeError("is cut off")
    return size - TAG * count


def seal_chunk(cipher: ChaCha20Poly1305, number: int, data: bytes | memoryview, *, last: bool) -> bytes:
    """Return the sealed chunk `number`."""
    return cipher.encrypt(_nonce(number, last), data, None)


def open_chunk(cipher: ChaCha20Poly1305, number: int, data: bytes | memoryview, *, last: bool) -> bytes:
    """Return the plain text of chunk `number`. Raises AgeError when it is not that chunk, unaltered."""
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(_nonce(number, last), data, None)
    except InvalidTag:
        raise AgeError(f"was altered in chunk {number}, at byte {number * CHUNK} of its plain text") from None


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))
