"""One sealed file, any span of which is computed from the spans of the plain file that it covers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from reconciler.content.age import header
from reconciler.content.age.stream import (
    CHUNK,
    SEALED_CHUNK,
    chunk_count,
    payload_cipher,
    seal_chunk,
    sealed_size,
)
from reconciler.content.sealing.seal_key import SealKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

HEAD_SIZE = 184  #: bytes of the header with one X25519 stanza, and of the nonce

ReadPlain = Callable[[int, int], bytes]
"""Reads the plain file: the first byte and the number of bytes; never less."""


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

    def seal(self, first: int, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield the sealed chunks of `data`, which begins with chunk `first` of the plain file."""
        cipher, view = self._opened[1], memoryview(data)
        for number, start in enumerate(range(0, max(1, len(view)), CHUNK), start=first):
            yield seal_chunk(cipher, number, view[start : start + CHUNK], last=number == self._last)

    def read(self, start: int, size: int, read_plain: ReadPlain) -> bytes:
        """Return `size` bytes of the sealed file from `start`; the span is inside of it."""
        end = start + size
        head = self.head[start:end]
        if end <= HEAD_SIZE:
            return head
        begin = max(0, start - HEAD_SIZE)
        first, last = begin // SEALED_CHUNK, (end - HEAD_SIZE - 1) // SEALED_CHUNK
        plain_start = first * CHUNK
        plain_end = min(self.plain_size, (last + 1) * CHUNK)
        data = read_plain(plain_start, plain_end - plain_start)
        chunks = [head, *self.seal(first, data)]
        # cut the first and the last chunk instead of the joined bytes, which would be copied again
        chunks[1] = chunks[1][begin - first * SEALED_CHUNK :]
        if surplus := sum(map(len, chunks)) - size:
            chunks[-1] = chunks[-1][:-surplus]
        return b"".join(chunks)
