"""Multibase: base32, base36 and base58btc in one canonical form each."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import multibase
from reconciler.errors import DataError

# the test vectors of the multibase specification for "yes mani !"
VECTOR = b"yes mani !"


def test_the_vectors_of_the_specification_are_reproduced() -> None:
    assert multibase.encode_base32(VECTOR) == "bpfsxgidnmfxgsibb"
    assert multibase.decode_base32("bpfsxgidnmfxgsibb") == VECTOR
    assert multibase.decode_base36("k2lcpzo5yikidynfl") == VECTOR
    assert multibase.encode_base58(VECTOR) == "7paNL19xttacUY"
    assert multibase.decode_base58("7paNL19xttacUY") == VECTOR


@given(st.binary(min_size=1, max_size=80))
def test_base32_is_that_of_rfc_4648_and_reads_back(data: bytes) -> None:
    text = multibase.encode_base32(data)
    assert text == "b" + base64.b32encode(data).decode().rstrip("=").lower()
    assert multibase.decode_base32(text) == data


@given(st.binary(max_size=80))
def test_base58_reads_back_with_leading_zeros(data: bytes) -> None:
    assert multibase.decode_base58(multibase.encode_base58(data)) == data


@given(st.text("abcdefghijklmnopqrstuvwxyz234567", max_size=40).map("b".__add__))
def test_a_base32_text_is_canonical_or_an_error(text: str) -> None:
    try:
        data = multibase.decode_base32(text)
    except DataError:
        return
    assert multibase.encode_base32(data) == text


@pytest.mark.parametrize(
    ("decode", "text"),
    [
        (multibase.decode_base32, ""),
        (multibase.decode_base32, "zpfsxgidnmfxgsibb"),
        (multibase.decode_base32, "bPFSXGIDNMFXGSIBB"),
        (multibase.decode_base32, "bpfsxgidnmfxgsib1"),
        (multibase.decode_base36, ""),
        (multibase.decode_base36, "k"),
        (multibase.decode_base36, "k2LCPZO5"),
        (multibase.decode_base36, "bpfsxgidnmfxgsibb"),
        (multibase.decode_base36, "k1_000"),
        (multibase.decode_base58, "7paNL19xttacU0"),
        (multibase.decode_base58, "7paNL 9"),
    ],
)
def test_a_malformed_text_is_an_error(decode: type, text: str) -> None:
    with pytest.raises(DataError):
        decode(text)
