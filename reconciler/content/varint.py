"""A codec of unsigned varints: LEB128 in minimal form, at most nine bytes.

Source: the multiformats unsigned-varint specification.
"""

from __future__ import annotations

from reconciler.errors import DataError

MAX_BYTES = 9


def encode(value: int) -> bytes:
    """Encode `value` in minimal form. Raises ValueError unless 0 <= value < 2**63."""
    if not 0 <= value < 1 << 63:
        raise ValueError(f"varint out of range: {value}")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def size(value: int) -> int:
    """Return the number of bytes of `encode(value)`."""
    return max(1, (value.bit_length() + 6) // 7)


def decode(data: bytes | memoryview, offset: int = 0) -> tuple[int, int]:
    """Decode the value at `offset`; return it and the offset after it.

    Raises DataError when it is truncated, longer than nine bytes, or not minimal.
    """
    value = 0
    for count in range(MAX_BYTES):
        if offset + count >= len(data):
            raise DataError("varint is truncated")
        byte = data[offset + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if byte == 0 and count > 0:
                raise DataError("varint is not in minimal form")
            return value, offset + count + 1
    raise DataError("varint is longer than nine bytes")
