"""One stanza of the header of an age file, and the base64 in it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stanza:
    """The file key for one recipient: the kind of the recipient, arguments, and `body`."""

    kind: str
    arguments: tuple[str, ...]
    body: bytes


def encode_base64(data: bytes) -> str:
    """Return base64 without padding."""
    return base64.b64encode(data).decode().rstrip("=")


def decode_base64(text: bytes | str) -> bytes | None:
    """Return the bytes of canonical base64 without padding, or None."""
    raw = text.encode() if isinstance(text, str) else text
    if b"=" in raw:
        return None
    try:
        data = base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if encode_base64(data).encode() == raw else None
