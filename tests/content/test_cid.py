from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import cid as cids
from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.errors import DataError

EMPTY_RAW = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
EMPTY_DIRECTORY = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"

some_cids = st.builds(Cid, st.sampled_from([RAW, DAG_PB]), st.binary(min_size=32, max_size=32))


def text_of(binary: bytes) -> str:
    return "b" + base64.b32encode(binary).decode().rstrip("=").lower()


@given(some_cids)
def test_text_and_bytes_give_back_the_cid(cid):
    assert cids.parse(str(cid)) == cids.parse_canonical(str(cid)) == cid
    assert cids.decode(bytes(cid)) == cid
    assert (len(str(cid)), len(bytes(cid))) == (59, cids.BINARY_SIZE)


@pytest.mark.parametrize(
    ("text", "codec", "block"),
    [(EMPTY_RAW, RAW, b""), (EMPTY_DIRECTORY, DAG_PB, b"\x0a\x02\x08\x01")],
)
def test_well_known_blocks_have_their_well_known_cids(text, codec, block):
    assert str(cids.hash_block(codec, block)) == text
    assert cids.parse(text).matches(block)
    assert not cids.parse(text).matches(block + b"\0")


@given(st.lists(st.binary(max_size=9), max_size=5), st.binary(max_size=9))
def test_a_block_may_come_in_parts(parts, more):
    cid = cids.hash_block(RAW, b"".join(parts))
    assert cid.matches(*parts)
    assert cid.matches(*parts, more) == (not more)


@pytest.mark.parametrize(
    ("v0", "v1"),
    [  # ipfs/specs src/unixfs.md, well-known CIDs
        ("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn", EMPTY_DIRECTORY),
        (
            "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
            "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y",
        ),
    ],
)
def test_cid_v0_reads_as_the_cid_v1_of_the_same_block_but_is_not_canonical(v0, v1):
    assert str(cids.parse(v0)) == v1
    with pytest.raises(DataError) as caught:
        cids.parse_canonical(v0)
    assert v1 in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "base32"),
        ("b", "not base32"),
        (EMPTY_RAW.upper(), "base32"),
        ("b" + EMPTY_RAW[1:].upper(), "lower-case"),
        (EMPTY_RAW[:-1], "."),
        (EMPTY_RAW + "a", "."),
        (EMPTY_RAW + "=", "."),
        (EMPTY_RAW[:-1] + "v", "trailing bits"),
        (EMPTY_RAW[:-1] + "1", "not base32"),
        (" " + EMPTY_RAW, "base32"),
        (EMPTY_RAW + "\n", "."),
        ("bafkreié", "."),
        ("zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93bA", "base32"),
        ("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3N0", "not base58"),
        ("Qm" + "1" * 44, "."),
        ("b" + "a" * 600, "longer than 512"),
        (text_of(b"\x01\x71\x12\x20" + bytes(32)), "codec dag-cbor"),
        (text_of(b"\x01\x82\x04\x12\x20" + bytes(32)), "codec car"),
        (text_of(b"\x01\x55\x13\x40" + bytes(64)), "hash 0x13"),
        (text_of(b"\x01\x55\x00\x05hello"), "hash 0x0"),
        (text_of(b"\x01\x55\x12\x14" + bytes(20)), "20 bytes instead of 32"),
        (text_of(b"\x02\x55\x12\x20" + bytes(32)), "version 2"),
        (text_of(b"\x01\x55\x12\x20" + bytes(33)), "trailing bytes"),
        (text_of(b"\x12\x20" + bytes(32)), "not a canonical CID"),
    ],
)
def test_every_other_text_is_refused_with_the_reason(text, reason):
    with pytest.raises(DataError, match=reason):
        cids.parse(text)


@given(st.text(max_size=80) | st.text("abcdefghijklmnopqrstuvwxyz234567", max_size=62).map("b".__add__))
def test_any_text_is_a_cid_or_a_data_error(text):
    try:
        cid = cids.parse(text)
    except DataError:
        return
    assert str(cid) == text or text.startswith("Qm")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_cid_or_a_data_error(data):
    try:
        cid = cids.decode(data)
    except DataError:
        return
    assert data in (bytes(cid), b"\x12\x20" + cid.digest)
