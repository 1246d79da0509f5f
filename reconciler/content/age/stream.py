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


def seal_chunks(cipher: ChaCha20Poly1305, first: int, data: memoryview, out: memoryview, *, last: int) -> int:
    """Seal `data`, which begins with chunk `first`, into `out`; return the bytes that were written.

    `last` is the number of the last chunk of the file. Buffers that are used again save more time than the
    ciphers take.
    """
    at = 0
    for number, start in enumerate(range(0, max(1, len(data)), CHUNK), start=first):
        part = data[start : start + CHUNK]
        end = at + len(part) + TAG
        nonce = _nonce(number, number == last)
        if hasattr(cipher, "encrypt_into"):  # not in earlier versions of `cryptography`
            cipher.encrypt_into(nonce, part, None, out[at:end])
        else:
            out[at:end] = cipher.encrypt(nonce, part, None)
        at = end
    return at


def open_chunks(cipher: ChaCha20Poly1305, first: int, data: memoryview, out: memoryview, *, last: int) -> int:
    """Open the sealed chunks in `data`, which begins with chunk `first`, into `out`; return their plain size.

    Raises AgeError for a chunk that is not at its place, or was altered.
    """
    from cryptography.exceptions import InvalidTag

    at = 0
    for number, start in enumerate(range(0, len(data), SEALED_CHUNK), start=first):
        part = data[start : start + SEALED_CHUNK]
        end = at + max(0, len(part) - TAG)
        nonce = _nonce(number, number == last)
        try:
            if hasattr(cipher, "decrypt_into"):
                cipher.decrypt_into(nonce, part, None, out[at:end])
            else:
                out[at:end] = cipher.decrypt(nonce, part, None)
        except InvalidTag:
            raise AgeError(
                f"was altered in chunk {number}, at byte {number * CHUNK} of its plain text"
            ) from None
        at = end
    return at


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))
