"""Encoding agrees with eth-abi; decoding gives the values back, and refuses everything malformed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.deals.onchain import abi
from reconciler.deals.onchain.abi import (
    ADDRESS,
    BOOL,
    BYTES,
    BYTES32,
    STRING,
    UINT,
    UINT8,
    UINT96,
    UINTS,
    ArrayKind,
    Kind,
    TupleKind,
)
from reconciler.deals.onchain.interface import EvmAddress
from reconciler.errors import DataError
from tests.support.onchain import ethereum

SIMPLE = [ADDRESS, BOOL, BYTES, BYTES32, STRING, UINT, UINT8, UINT96]
KINDS = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.one_of(
        inner.map(ArrayKind),
        st.lists(inner, min_size=1, max_size=4).map(lambda kinds: TupleKind(tuple(kinds))),
    ),
    max_leaves=6,
)


def values_of(kind: Kind) -> st.SearchStrategy[Any]:
    """Values of a kind."""
    if isinstance(kind, ArrayKind):
        return st.lists(values_of(kind.item), max_size=4).map(tuple)
    if isinstance(kind, TupleKind):
        return st.tuples(*map(values_of, kind.items))
    return {
        ADDRESS: st.binary(min_size=20, max_size=20).map(EvmAddress),
        BOOL: st.booleans(),
        BYTES: st.binary(max_size=70),
        BYTES32: st.binary(min_size=32, max_size=32),
        STRING: st.text(max_size=40),
        UINT: st.integers(0, 2**256 - 1),
        UINT8: st.integers(0, 255),
        UINT96: st.integers(0, 2**96 - 1),
    }[kind]  # type: ignore[index]


CASES = st.lists(KINDS, min_size=1, max_size=4).flatmap(
    lambda kinds: st.tuples(st.just(kinds), st.tuples(*map(values_of, kinds)))
)


def plain(value: Any) -> Any:
    """The value as eth-abi takes it."""
    if isinstance(value, EvmAddress):
        return str(value)
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


@given(CASES)
def test_encoding_agrees_with_eth_abi_and_decoding_gives_the_values_back(
    case: tuple[list[Kind], Any],
) -> None:
    kinds, values = case
    encoded = abi.encode(kinds, values)
    assert encoded == ethereum.encode([kind.name for kind in kinds], plain(values))
    assert abi.decode(kinds, encoded) == values


@given(CASES, st.binary(max_size=4).map(lambda more: more * 32))
def test_words_after_those_that_are_asked_for_are_ignored(case: tuple[list[Kind], Any], more: bytes) -> None:
    kinds, values = case
    assert abi.decode(kinds, abi.encode(kinds, values) + more) == values


@given(CASES, st.data())
def test_an_answer_that_is_cut_off_or_changed_gives_values_or_one_error(
    case: tuple[list[Kind], Any], data: st.DataObject
) -> None:
    kinds, values = case
    encoded = bytearray(abi.encode(kinds, values))
    with pytest.raises(DataError):
        abi.decode(kinds, bytes(encoded[: data.draw(st.integers(0, len(encoded) - 1))]))
    for _ in range(3):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        abi.decode(kinds, bytes(encoded))
    except DataError as error:
        assert error.message


@given(st.lists(KINDS, min_size=1, max_size=3), st.binary(max_size=40).map(lambda some: some * 32))
def test_any_bytes_give_values_or_one_error(kinds: list[Kind], some: bytes) -> None:
    try:
        abi.decode(kinds, some)
    except DataError as error:
        assert error.message


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.parametrize(
    ("kinds", "answer", "reason"),
    [
        ([UINT], b"", "there is no contract, or it does not know the call"),
        ([UINT], bytes(31), "not a whole number of words"),
        ([UINT], bytes(33), "not a whole number of words"),
        ([UINT, UINT], bytes(32), "ends after 32 bytes"),
        ([BOOL], word(2), "neither 0 nor 1"),
        ([BOOL], word(1 << 255), "neither 0 nor 1"),
        ([UINT8], word(256), "more than 8 bits"),
        ([UINT96], word(1 << 96), "more than 96 bits"),
        ([ADDRESS], word(1 << 160), "longer than 20 bytes"),
        ([BYTES], word(32) + word(5) + b"abcdef" + bytes(26), "followed by bytes that are not zero"),
        ([BYTES], word(32) + word(33) + bytes(32), "ends after 96 bytes"),
        ([BYTES], word(32) + word(1 << 40) + bytes(32), "longer than 1048576 bytes"),
        ([BYTES], word(64), "points outside"),
        ([BYTES], word(33) + bytes(64), "points outside"),
        ([BYTES], word(2**256 - 32) + bytes(64), "points outside"),
        ([STRING], word(32) + word(1) + b"\xff" + bytes(31), "not UTF-8"),
        ([UINTS], word(32) + word(2) + word(1), "ends after 96 bytes"),
        ([UINTS], word(32) + word(10_001), "more than 10000 items"),
        ([UINTS], bytes(abi.MAX_ANSWER + 32), "more than 8388608 bytes"),
    ],
)  # fmt: skip
def test_a_malformed_answer_says_what_is_wrong(kinds: list[Kind], answer: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        abi.decode(kinds, answer)


def test_values_that_overlap_are_refused_before_they_fill_the_memory() -> None:
    """10,000 items that all are the same megabyte would be ten gigabytes."""
    text = word(1 << 20) + bytes(1 << 20)
    items = b"".join(word(10_000 * 32) for _ in range(10_000))
    with pytest.raises(DataError, match="overlap"):
        abi.decode([ArrayKind(BYTES)], word(32) + word(10_000) + items + text)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (UINT, -1), (UINT, 1 << 256), (UINT, True), (UINT, "1"), (UINT8, 256), (BOOL, 1),
        (BYTES32, bytes(31)),
        (BYTES, "text"), (STRING, b"bytes"), (ADDRESS, "0x" + "00" * 20), (UINTS, {1}),
        (TupleKind((UINT,)), ()),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_not_encoded(kind: Kind, value: object) -> None:
    with pytest.raises(DataError):
        abi.encode([kind], [value])
