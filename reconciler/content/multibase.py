"""Text encodings of bytes, as multibase defines them.

A multibase text begins with one character for its base: `b` for base32 (RFC 4648, lower case, no padding),
`k` for base36. base58btc is used without its `z`: as CIDv0, as peer ID, or by a caller that adds the `z`.
The functions for one base are strict: one text for the same bytes. `decode` reads every base in which other
programs write CIDs. Source: the multibase specification of multiformats.
"""

from __future__ import annotations

import base64
import binascii

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


def decode(text: str) -> bytes:
    """Decode multibase `text` in any of base16, base32, base36, base58btc and base64.

    Digits of bases that have no upper case of their own are read in either case, and padding may be left out.
    Raises DataError.
    """
    base, body = text[:1], text[1:]
    try:
        match base:
            case "b" | "B" | "c" | "C":
                return decode_base32("b" + body.lower().rstrip("="))
            case "k" | "K":
                return decode_base36("k" + body.lower())
            case "z":
                return decode_base58(body)
            case "f" | "F":
                return binascii.unhexlify(body)
            case "v" | "V" | "t" | "T":
                return base64.b32hexdecode(_padded(body.upper(), 8))
            case "m" | "M":
                return base64.b64decode(_padded(body, 4), validate=True)
            case "u" | "U":
                return base64.b64decode(_padded(body, 4), altchars=b"-_", validate=True)
    except ValueError:
        raise DataError(f"{text!r} is not valid in the base that its first letter names") from None
    raise DataError(f"{text!r} does not begin with the letter of a base")


def _padded(body: str, length: int) -> str:
    """Return `body` with the padding of its base."""
    body = body.rstrip("=")
    return body + "=" * (-len(body) % length)
