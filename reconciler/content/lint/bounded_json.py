"""JSON headers of unknown origin: parsed only when their size and structure are bounded."""

from __future__ import annotations

from reconciler.json_fields import load_json

MAX_BYTES = 16 << 20  #: the headers of real checkpoints have less than 1 MiB
MAX_VALUES = 1 << 20  #: so that the parsed value stays below about 200 MB


class JsonTooLargeError(ValueError):
    """The text is too large to be examined, which says nothing about its validity."""


def load_bounded(data: bytes) -> object:
    """Parse one JSON value.

    Raises JsonTooLargeError beyond the bounds, and ValueError as `load_json` does.
    """
    if len(data) > MAX_BYTES:
        raise JsonTooLargeError(f"has {len(data):,} bytes; at most {MAX_BYTES:,} are examined")
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if values > MAX_VALUES:
        raise JsonTooLargeError(f"has {values:,} values; at most {MAX_VALUES:,} are examined")
    return load_json(data)


def shown_name(name: str) -> str:
    """Quote a name from a header, cut to a readable length."""
    return repr(name) if len(name) <= 80 else f"{name[:80]!r}…"
