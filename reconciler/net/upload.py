"""Streamed request bodies: a known length, pieces on demand, and a multipart file part around them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reconciler.net.deadline import remaining

PIECE = 1 << 20  #: bytes; larger pieces make httpx slow, because it slices each one again and again


@dataclass(frozen=True, slots=True)
class Upload:
    """A body of exactly `size` bytes; `pieces` makes it anew each time, so that it can be sent again."""

    size: int
    pieces: Callable[[], Iterator[bytes]]
    content_type: str = "application/octet-stream"


class Counted:
    """An upload on its way, which knows whether all of it went out."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._sent = 0

    @property
    def complete(self) -> bool:
        """Whether every byte was handed to the connection."""
        return self._sent == self._upload.size

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._upload.pieces():
            remaining()
            yield piece
            self._sent += len(piece)


def multipart_file(filename: str, upload: Upload, *, field: str = "file") -> Upload:
    """`upload` as the only part of a multipart/form-data body (RFC 7578), still of known length."""
    boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
        f"Content-Type: {upload.content_type}\r\n\r\n"
    ).encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")

    def pieces() -> Iterator[bytes]:
        yield head
        yield from upload.pieces()
        yield tail

    size = len(head) + upload.size + len(tail)
    return Upload(size, pieces, f"multipart/form-data; boundary={boundary}")
