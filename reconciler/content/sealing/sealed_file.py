"""One sealed file, any span of which is computed from the spans of the plain file that it covers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from threading import local
from typing import TYPE_CHECKING

from reconciler.content.age import header
from reconciler.content.age.stream import (
    CHUNK,
    SEALED_CHUNK,
    chunk_count,
    payload_cipher,
    seal_chunks,
    sealed_size,
)
from reconciler.content.sealing.seal_key import SealKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

HEAD_SIZE = 184  #: bytes of the header with one X25519 stanza, and of the nonce

ReadPlain = Callable[[int, memoryview], None]
"""Fills a buffer with bytes of the plain file, from the given one on."""

_KEPT = 20  # chunks in the buffers that a thread keeps: a block needs 18


def size_when_sealed(size: int) -> int:
    """Return the bytes of a sealed file of `size` bytes."""
    return HEAD_SIZE + sealed_size(size)


class FileSealer:
    """The sealed form of the file at `path`, of `plain_size` bytes with the digest `sha256`.

    Safe to use from several threads.
    """

    def __init__(self, key: SealKey, path: str, sha256: bytes, plain_size: int) -> None:
        self.path = path
        self.sha256 = sha256
        self.plain_size = plain_size
        self.size = size_when_sealed(plain_size)
        self._key = key
        self._last = chunk_count(plain_size) - 1

    @cached_property
    def _opened(self) -> tuple[bytes, ChaCha20Poly1305]:
        """What is in front of the chunks, and their cipher; together a tenth of a millisecond of work."""
        secrets = self._key.file_secrets(self.path, self.sha256)
        stanza = self._key.identity.recipient.wrap(secrets.file_key, lambda _: secrets.ephemeral)
        head = header.render([stanza], secrets.file_key) + secrets.nonce
        assert len(head) == HEAD_SIZE  # noqa: S101 - a stanza of fixed length
        return head, payload_cipher(secrets.file_key, secrets.nonce)

    @property
    def head(self) -> bytes:
        """The header and the nonce."""
        return self._opened[0]

    def seal(self, first: int, data: memoryview, out: memoryview) -> int:
        """Seal `data`, the plain text from chunk `first` on, into `out`; return its size there."""
        return seal_chunks(self._opened[1], first, data, out, last=self._last)

    def seal_all(self, data: bytes) -> bytes:
        """Return the sealed form of a small file with these bytes."""
        out = bytearray(sealed_size(len(data)))
        self.seal(0, memoryview(data), memoryview(out))
        return self.head + out

    def read(self, start: int, size: int, read_plain: ReadPlain) -> bytes:
        """Return `size` bytes of the sealed file from `start`; the span is inside of it."""
        end = start + size
        head = self.head[start:end]
        if end <= HEAD_SIZE:
            return head
        begin = max(0, start - HEAD_SIZE)
        first, last = begin // SEALED_CHUNK, (end - HEAD_SIZE - 1) // SEALED_CHUNK
        plain_start = first * CHUNK
        plain, out = _buffers(last - first + 1)
        plain = plain[: min(self.plain_size, (last + 1) * CHUNK) - plain_start]
        read_plain(plain_start, plain)
        self.seal(first, plain, out)
        skipped = begin - first * SEALED_CHUNK
        found = out[skipped : skipped + size - len(head)]
        return b"".join((head, found)) if head else bytes(found)


class _ThreadBuffers(local):
    """The buffers of one thread."""

    def __init__(self) -> None:
        self.plain = memoryview(bytearray(_KEPT * CHUNK))
        self.sealed = memoryview(bytearray(_KEPT * SEALED_CHUNK))


_KEPT_BUFFERS = _ThreadBuffers()


def _buffers(chunks: int) -> tuple[memoryview, memoryview]:
    """Return buffers for `chunks`, plain and sealed; they are this thread's until the next call."""
    if chunks <= _KEPT:
        return _KEPT_BUFFERS.plain, _KEPT_BUFFERS.sealed
    return memoryview(bytearray(chunks * CHUNK)), memoryview(bytearray(chunks * SEALED_CHUNK))
