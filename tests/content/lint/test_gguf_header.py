"""Headers of GGUF files: what loaders refuse is found, and no header raises."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content.lint.finding import Flaw
from reconciler.content.lint.gguf_header import gguf_flaws
from tests.content.lint.files import names, reader
from tests.support.gguf import (
    ARRAY,
    F32,
    Q4_K,
    STRING,
    UINT8,
    UINT32,
    array,
    gguf,
    pair,
    tensor,
    text,
)

UNKNOWN = 999


def flaws(data: bytes) -> list[Flaw]:
    return list(gguf_flaws(reader(data), len(data)))


DEEP = array(UINT8, 0, b"")
for _ in range(5):
    DEEP = array(ARRAY, 1, DEEP)
VALID = gguf(
    (
        pair(b"general.name", STRING, text(b"tiny")),
        pair(b"tokenizer.tokens", ARRAY, array(STRING, 3, text(b"a") + text(b"bc") + text(b""))),
        pair(b"tokenizer.scores", ARRAY, array(UINT32, 3, bytes(12))),
        pair(b"nested", ARRAY, array(ARRAY, 1, array(UINT8, 2, b"xy"))),
    ),
    (tensor(b"a", (8,), F32, 0), tensor(b"b", (256, 2), Q4_K, 32)),
    bytes(32 + 288),
)


@pytest.mark.parametrize(
    "data",
    [
        VALID,
        VALID + bytes(17),
        gguf(),
        gguf(version=1),
        gguf(version=2),
        gguf((pair(b"k", STRING, text(b"v", ">"), ">"),), order=">"),
        gguf(
            (pair(b"general.alignment", UINT32, struct.pack("<I", 8)),),
            (tensor(b"a", (1,), F32, 8),),
            bytes(12),
            alignment=8,
        ),
        gguf((), (tensor(b"a", (10,), UNKNOWN, 0),), b"x"),
    ],
)
def test_a_file_that_loaders_accept_has_no_flaw(data: bytes) -> None:
    assert flaws(data) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"weights", "does not begin with 'GGUF'"),
        (b"PK\x03\x04", "does not begin with 'GGUF'"),
        (b"GGUF" + bytes(20), "version 0"),
        (b"GGUF" + b"\xff" * 20, "version 4294967295"),
        (gguf((pair(b"k", 77, b""),)), "unknown type 77"),
        (gguf((pair(b"k", ARRAY, DEEP),)), "unknown type 9"),
        (gguf((pair(b"general.alignment", UINT32, bytes(4)),)), "alignment 0"),
        (gguf((pair(b"general.alignment", UINT32, struct.pack("<I", 12)),)), "alignment 12"),
        (gguf((), (tensor(b"a", (1,) * 9, F32, 0),)), "9 dimensions"),
        (gguf((), (tensor(b"a", (16,), F32, 0), tensor(b"b", (1,), F32, 32)), bytes(64)), "an overlap"),
    ],
)  # fmt: skip
def test_a_file_that_loaders_refuse_has_an_invalid_header(data: bytes, said: str) -> None:
    (flaw,) = flaws(data)
    assert flaw.code == "invalid-header"
    assert said in flaw.text


@pytest.mark.parametrize("kept", range(5, len(VALID), 7))
def test_a_file_that_was_cut_off_is_truncated(kept: int) -> None:
    assert names(flaws(VALID[:kept])) == ["truncated-file"]


@pytest.mark.parametrize("offset", [1, 16, 33])
def test_a_tensor_at_an_unaligned_offset_is_found(offset: int) -> None:
    assert names(flaws(gguf((), (tensor(b"a", (1,), F32, offset),), bytes(40)))) == ["unaligned-tensor"]


@pytest.mark.parametrize(
    "data",
    [
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 0),
        b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + pair(b"k", ARRAY, array(UINT8, 65 << 20, b""))
        + bytes(66 << 20),
    ],
)
def test_a_huge_header_is_not_read(data: bytes) -> None:
    assert names(flaws(data)) == ["unexamined-file"]


@pytest.mark.parametrize("number", [1 << 63, (1 << 64) - 1])
def test_counts_beyond_the_file_end_the_examination(number: int) -> None:
    for data in (
        b"GGUF" + struct.pack("<IQQ", 3, 0, number),
        gguf((pair(b"k", STRING, struct.pack("<Q", number)),)),
        gguf((pair(b"k", ARRAY, array(STRING, number, b"")),)),
        gguf((), (tensor(b"a", (number, number), F32, 0),), b"x"),
    ):
        assert names(flaws(data)) == ["truncated-file"]


@given(st.binary(max_size=200))
def test_no_bytes_raise(rest: bytes) -> None:
    flaws(b"GGUF" + rest)


@given(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=8))
def test_no_changed_byte_raises(place: int, changed: bytes) -> None:
    flaws(VALID[:place] + changed + VALID[place + len(changed) :])
