"""Validation stamps: that exactly this text held under exactly this schema, so that nobody has to look again.

A stamp only ever skips the JSON Schema check (and the import of its library); what `load.py` checks itself
runs always. Deleting stamps is safe at any time, and a forged one gains nothing but worse error messages.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from reconciler import __version__
from reconciler.index.schemas import schema_text


def stamp_key(schema: str, digest: str) -> str:
    """What the stamp of a file with this sha256 (hex) says under this schema and version of the package."""
    parts = (__version__, schema, schema_text(schema), digest)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_stamped(stamps: Path, schema: str, key: str) -> bool:
    """Whether the last file that held under `schema` is the one with this key."""
    try:
        with _file(stamps, schema).open("rb") as file:
            return file.read(len(key) + 1) == key.encode()
    except OSError:
        return False


def write_stamp(stamps: Path, schema: str, key: str) -> None:
    """Remember `key`. A cache that cannot be written is no error."""
    with contextlib.suppress(OSError):
        stamps.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=stamps, prefix=".stamp-")
        with os.fdopen(handle, "wb") as file:
            file.write(key.encode())
        Path(temporary).replace(_file(stamps, schema))


def _file(stamps: Path, schema: str) -> Path:
    return stamps / f"{schema}.valid"
