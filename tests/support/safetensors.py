"""Small valid safetensors files."""

from __future__ import annotations

import json


def safetensors(data: bytes, *, dtype: str = "U8", size: int = 1) -> bytes:
    """Return a safetensors file with one tensor `weight` over `data`, whose elements have `size` bytes."""
    entry = {"dtype": dtype, "shape": [len(data) // size], "data_offsets": [0, len(data)]}
    return with_header({"weight": entry}, data)


def with_header(header: object, data: bytes = b"") -> bytes:
    """Return a file in the layout of safetensors with the given header, padded to a multiple of 8 bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data
