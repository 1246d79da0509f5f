"""Bech32 as BIP 173 defines it, without its limit of 90 characters: the spelling of age keys."""

from __future__ import annotations

from collections.abc import Iterable

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6  # characters


def encode(prefix: str, data: bytes) -> str:
    """Return `data` as lower-case Bech32 with the lower-case `prefix`."""
    values = _regroup(data, 8, 5, pad=True)
    checksum = _polymod([*_expanded(prefix), *values, *[0] * _CHECKSUM]) ^ 1
    values += [(checksum >> 5 * (_CHECKSUM - 1 - number)) & 31 for number in range(_CHECKSUM)]
    return f"{prefix}1{''.join(_ALPHABET[value] for value in values)}"


def decode(text: str) -> tuple[str, bytes]:
    """Return the prefix in lower case, and the data. Raises ValueError, which does not quote `text`."""
    if text not in (text.lower(), text.upper()):
        raise ValueError("mixes upper and lower case")
    prefix, one, body = text.lower().rpartition("1")
    if not one or not prefix or len(body) < _CHECKSUM:
        raise ValueError("is too short")
    if not set(body) <= set(_ALPHABET):
        raise ValueError("has a character that Bech32 does not have")
    values = [_ALPHABET.index(character) for character in body]
    if _polymod([*_expanded(prefix), *values]) != 1:
        raise ValueError("has a wrong checksum")
    return prefix, bytes(_regroup(values[:-_CHECKSUM], 5, 8, pad=False))


def _expanded(prefix: str) -> list[int]:
    return [*(ord(each) >> 5 for each in prefix), 0, *(ord(each) & 31 for each in prefix)]


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for number, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> number & 1 else 0
    return checksum


def _regroup(values: Iterable[int], width: int, wanted: int, *, pad: bool) -> list[int]:
    """Return the bits of `values`, each of `width` bits, as numbers of `wanted` bits."""
    bits = count = 0
    found = []
    for value in values:
        bits, count = bits << width | value, count + width
        while count >= wanted:
            count -= wanted
            found.append(bits >> count & (1 << wanted) - 1)
    left = bits & (1 << count) - 1
    if pad and count:
        found.append(left << wanted - count & (1 << wanted) - 1)
    elif not pad and (count >= width or left):
        raise ValueError("has padding that is not zero")
    return found
