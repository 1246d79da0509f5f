from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import unixfs
from reconciler.content.unixfs import UnixFs, UnixFsType
from reconciler.errors import DataError

numbers = st.integers(0, 2**63 - 1)
messages = st.builds(
    UnixFs,
    st.sampled_from(UnixFsType),
    st.binary(max_size=100),
    st.none() | numbers,
    st.lists(numbers, max_size=5).map(tuple),
    st.none() | numbers,
    st.none() | numbers,
)


@given(messages)
def test_decoding_gives_back_what_was_encoded(message):
    assert unixfs.decode(unixfs.encode(message)) == message


@given(st.binary(max_size=100))
def test_any_bytes_decode_or_are_a_data_error(data):
    with contextlib.suppress(DataError):
        unixfs.decode(data)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (unixfs.DIRECTORY, "0801"),
        (unixfs.file([3, 200]), "080218cb01200320c801"),
        (unixfs.encode(UnixFs(UnixFsType.SYMLINK, b"a/b")), "08041203612f62"),
        (unixfs.hamt_shard(1 << 9 | 1, 256), "080512020201" + "2822" + "308002"),
    ],
)
def test_each_kind_is_encoded_byte_for_byte(written, expected):
    assert written.hex() == expected


def test_mode_and_mtime_are_skipped():
    message = bytes.fromhex("0801" + "38ed03" + "4208" + "08ffffffff0f0000")

    assert unixfs.decode(message) == UnixFs(UnixFsType.DIRECTORY)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "no type"),
        ("1200", "no type"),
        ("0806", "unknown UnixFS type 6"),
        ("08010801", "repeated field"),
        ("080112001200", "repeated field"),
        ("080142004200", "repeated field"),
        ("08024801", "unknown field"),
        ("080222010a", "unknown field"),
        ("08021205aa", "truncated"),
        ("0802188000", "minimal"),
    ],
)
def test_an_invalid_message_is_refused(message, reason):
    with pytest.raises(DataError, match=reason):
        unixfs.decode(bytes.fromhex(message))
