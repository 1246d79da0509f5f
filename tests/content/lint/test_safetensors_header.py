"""Headers of safetensors files: what loaders refuse is found, and no header raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.lint.finding import Flaw
from reconciler.content.lint.safetensors_header import safetensors_flaws
from tests.content.lint.files import names, reader
from tests.support.safetensors import safetensors, with_header


def flaws(data: bytes) -> list[Flaw]:
    return list(safetensors_flaws(reader(data), len(data)))


def tensor(begin: int, end: int, dtype: str = "U8", *shape: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) or [end - begin], "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "data",
    [
        safetensors(b"x" * 100),
        safetensors(b"x" * 96, dtype="F32", size=4),
        with_header({}),
        with_header({"__metadata__": {"format": "pt"}, "a": tensor(0, 4, "F32", 1)}, bytes(4)),
        with_header({"b": tensor(4, 8), "a": tensor(0, 4)}, bytes(8)),
        with_header({"scalar": {"dtype": "F64", "shape": [], "data_offsets": [0, 8]}}, bytes(8)),
        with_header({"none": tensor(0, 0, "F32", 0, 7), "a": tensor(0, 4)}, bytes(4)),
        with_header({"later": tensor(0, 3, "F99_NEW", 1000)}, bytes(3)),
        with_header({"half": tensor(0, 2, "F4", 4)}, bytes(2)),
    ],
)
def test_a_file_that_loaders_accept_has_no_flaw(data: bytes) -> None:
    assert flaws(data) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"weights", "it has 7 bytes"),
        (b"", "it has 0 bytes"),
        (b"weights!" * 20, "declares a header"),
        ((100_000_001).to_bytes(8, "little") + b"{", "100,000,001"),
        (b"\xff" * 9, "declares a header"),
        ((2).to_bytes(8, "little") + b"[]", "begin with"),
        ((8).to_bytes(8, "little") + b"{\x80\x02}q\0..", "not JSON"),
        (with_header(b'{"a": 1, "a": 2}'), "'a' occurs twice"),
        (with_header(b'{"a":' * 50_000), "nested too deeply"),
        (with_header(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (with_header({"a": 7}), "malformed tensor 'a'"),
        (with_header({"a": {"dtype": "U8", "shape": [4]}}), "valid dtype"),
        (with_header({"a": tensor(0, 4, "U8", -4)}, bytes(4)), "valid dtype"),
        (with_header({"a": {"dtype": "U8", "shape": [1.0], "data_offsets": [0, 1]}}, b"x"), "valid dtype"),
        (with_header({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"x"), "valid dtype"),
        (with_header({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 0]}}, b"x"), "not a range"),
        (with_header({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, b"x"), "not a range"),
        (with_header({"a": tensor(0, 4, "F32", 2)}, bytes(4)), "does not match"),
        (with_header({"a": tensor(0, 4, "U8", *[1 << 63] * 1000)}, bytes(4)), "does not match"),
        (with_header({"__metadata__": {"n": 1}}), "__metadata__"),
        (with_header({"__metadata__": []}), "__metadata__"),
        (with_header({"a": tensor(0, 4), "b": tensor(5, 9)}, bytes(9)), "a hole before the tensor 'b'"),
        (with_header({"a": tensor(4, 8)}, bytes(8)), "a hole before the tensor 'a'"),
        (with_header({"a": tensor(0, 4), "b": tensor(3, 7)}, bytes(7)), "an overlap before the tensor 'b'"),
        (with_header({"a": tensor(0, 4), "b": tensor(0, 4)}, bytes(4)), "an overlap"),
        (with_header({"a": tensor(0, 4)}, bytes(6)), "2 bytes after its last tensor"),
    ],
)
def test_a_file_that_loaders_refuse_has_an_invalid_header(data: bytes, text: str) -> None:
    (flaw,) = flaws(data)
    assert flaw.code == "invalid-header"
    assert text in flaw.text


@pytest.mark.parametrize("kept", [9, 40, 100, -1])
def test_a_file_that_was_cut_off_is_truncated(kept: int) -> None:
    assert names(flaws(safetensors(bytes(500))[:kept])) == ["truncated-file"]


@pytest.mark.parametrize(
    ("begin", "dtype", "size"), [(1, "F32", 4), (2, "F32", 4), (1, "BF16", 2), (4, "I64", 8)]
)
def test_a_tensor_at_an_unaligned_offset_is_found(begin: int, dtype: str, size: int) -> None:
    header = {"a": tensor(0, begin), "b": tensor(begin, begin + size, dtype, 1)}
    (flaw,) = flaws(with_header(header, bytes(begin + size)))
    assert flaw.code == "unaligned-tensor"
    assert "1 of 2 tensors" in flaw.text
    assert "'b'" in flaw.text


def test_a_header_that_is_not_padded_leaves_its_tensors_unaligned() -> None:
    text = json.dumps({"a": tensor(0, 4, "F32", 1)}).encode()
    text += b" " * (-len(text) % 8 + 1)
    assert names(flaws(len(text).to_bytes(8, "little") + text + bytes(4))) == ["unaligned-tensor"]


@pytest.mark.parametrize("text", [b"{" + b" " * (17 << 20) + b"}", b'{"a": [' + b"0," * (1 << 20) + b"0]}"])
def test_a_huge_header_is_not_parsed(text: bytes) -> None:
    assert names(flaws(with_header(text))) == ["unexamined-file"]


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    flaws(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "F32", "F64", "F4", "NEW"]) | JSON,
        "shape": st.lists(st.integers(-2, 1 << 70), max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(-1, 1 << 70) | st.integers(0, 9), max_size=3) | JSON,
    }
)


@given(st.dictionaries(st.text(max_size=5), ENTRY | JSON, max_size=4) | JSON, st.binary(max_size=20))
def test_no_header_raises(header: object, data: bytes) -> None:
    flaws(with_header(header, data))


@given(st.lists(st.integers(0, 20), max_size=6), st.data())
def test_tensors_that_cover_the_data_are_valid_in_any_order(sizes: list[int], data: st.DataObject) -> None:
    begin, header = 0, {}
    for number, size in enumerate(sizes):
        header[f"t{number}"] = tensor(begin, begin + size)
        begin += size
    order = data.draw(st.permutations(list(header)))
    whole = with_header({name: header[name] for name in order}, bytes(begin))
    assert flaws(whole) == []
    if begin:
        cut = data.draw(st.integers(1, begin))
        assert names(flaws(whole[:-cut])) == ["truncated-file"]
