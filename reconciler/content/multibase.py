"""Text encodings of bytes: base32, base36 and base58btc as multibase defines them.

A multibase text begins with one character for its base: `b` for base32 (RFC 4648, lower case, no padding),
`k` for base36. base58btc is used without its `z`: as CIDv0, as peer ID, or by a caller that adds the `z`.
Decoding is strict: one text for the same bytes. Source: the multibase specification of multiformats.
"""

from __future__ import annotations

import base64

from reconciler.errors import DataError

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE32_TO_PYTHON = str.maketrans(_BASE32, _BASE36[:32])


def encode_base32(data: bytes) -> str:
    """Return `data` as multibase text in base32: `b` and lower-case digits without padding."""
    return "b" + base64.b32encode(data).decode("ascii").rstrip("=").lower()


def decode_base32(text: str) -> bytes:
    """Decode multibase `text` in base32 (`b…`). Raises DataError unless it is the canonical form."""
    body = text[1:]
    if body != body.lower():
        raise DataError(f"{text!r} is not lower-case base32")
    if not text.startswith("b") or body.strip(_BASE32):
        raise DataError(f"{text!r} is not base32")
    spare = len(body) * 5 % 8
    try:
        # int() reads base 32 with other digits, in linear time: an index of thousands of CIDs loads faster.
        number = int(body.translate(_BASE32_TO_PYTHON), 32)
    except ValueError:
        raise DataError(f"{text!r} is not base32") from None
    if spare >= 5 or number & ((1 << spare) - 1):
        raise DataError(f"{text!r} is not canonical base32: its trailing bits are not zero")
    return (number >> spare).to_bytes(len(body) * 5 // 8, "big")


def decode_base36(text: str) -> bytes:
    """Decode multibase `text` in lower-case base36 (`k…`), without leading zero bytes. Raises DataError."""
    body = text[1:]
    if not text.startswith("k") or not body or body.strip(_BASE36):
        raise DataError(f"{text!r} is not base36")
    number = int(body, 36)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def encode_base58(data: bytes) -> str:
    """Return `data` in base58btc, without a multibase prefix."""
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def decode_base58(text: str) -> bytes:
    """Decode `text` in base58btc, without a multibase prefix. Raises DataError."""
    number = 0
    for character in text:
        digit = _BASE58.find(character)
        if digit < 0:
            raise DataError(f"{text!r} is not base58: {character!r} is not one of its digits")
        number = number * 58 + digit
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return b"\0" * (len(text) - len(text.lstrip("1"))) + body
