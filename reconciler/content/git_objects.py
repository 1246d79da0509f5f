"""Ids of git objects: the SHA-1 of kind, size in bytes and content.

Source: the git documentation, gitformat-loose and "Git Internals - Git Objects".
"""

from __future__ import annotations

import hashlib
from typing import Any


def object_hash(kind: str, size: int) -> Any:
    """Return a SHA-1 that becomes the id of an object of `kind` when its `size` bytes have been added."""
    return hashlib.sha1(f"{kind} {size}\0".encode(), usedforsecurity=False)


def object_id(kind: str, data: bytes, *, sha256: bool = False) -> bytes:
    """Return the id (20 bytes) of the object of `kind`, such as "blob" or "tree", with these bytes.

    With `sha256`, return the one (32 bytes) that it has in a repository with SHA-256.
    """
    running = hashlib.sha256(f"{kind} {len(data)}\0".encode()) if sha256 else object_hash(kind, len(data))
    running.update(data)
    return bytes(running.digest())
