"""Streamed request bodies: a known length, pieces on demand, and a multipart file part around them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PIECE = 1 << 20  #: bytes; larger pieces make httpx slow, because it slices each one again and again


@dataclass(frozen=True, slots=True)
class Upload:
    """A body of exactly `size` bytes; `pieces` makes it anew each time, so that it can be sent again."""

    size: int
    pieces: Callable[[], Iterator[bytes]]
    content_type: str = "application/octet-stream"


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
