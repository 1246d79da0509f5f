from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import cid as cids
from reconciler.content import multibase
from reconciler.content.cid import DAG_PB, RAW, Cid, UnsupportedCidError
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
        ("", "letter of a base"),
        ("b", "not base32"),
        ("x" + EMPTY_RAW[1:], "letter of a base"),
        ("f01551220", "truncated"),
        ("f015512é0", "not valid in the base"),
        ("m!!!!", "not valid in the base"),
        (EMPTY_RAW[:-1], "."),
        (EMPTY_RAW + "a", "."),
        (EMPTY_RAW[:-1] + "v", "trailing bits"),
        (EMPTY_RAW[:-1] + "1", "not base32"),
        (" " + EMPTY_RAW, "letter of a base"),
        (EMPTY_RAW + "\n", "."),
        ("bafkreié", "."),
        ("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3N0", "not base58"),
        ("Qm" + "1" * 44, "."),
        ("b" + "a" * 600, "longer than 512"),
        (text_of(b"\x01\x71\x12\x20" + bytes(32)), "codec dag-cbor"),
        (text_of(b"\x01\x82\x04\x12\x20" + bytes(32)), "codec car"),
        (text_of(b"\x01\x55\x13\x40" + bytes(64)), "hash sha2-512"),
        (text_of(b"\x01\x55\x00\x05hello"), "hash identity"),
        (text_of(b"\x01\x55\x12\x14" + bytes(20)), "20 bytes instead of 32"),
        (text_of(b"\x02\x55\x12\x20" + bytes(32)), "version 2"),
        (text_of(b"\x01\x55\x12\x20" + bytes(33)), "trailing bytes"),
        (text_of(b"\x12\x20" + bytes(32)), "CIDv0 in a base other than"),
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
    assert cids.parse(str(cid)) == cid
    assert len(text) >= 46


def spellings(cid: Cid) -> dict[str, str]:
    """The CID in every base that programs write, made without our encoders where Python has its own."""
    data = bytes(cid)
    number, base36 = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        base36 = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + base36
    return {
        "base16": "f" + data.hex(),
        "base16 upper": "F" + data.hex().upper(),
        "base32": str(cid),
        "base32 upper": str(cid).upper(),
        "base32 with an upper-case body": "b" + str(cid)[1:].upper(),
        "base32 padded": "c" + base64.b32encode(data).decode().lower(),
        "base32hex": "v" + base64.b32hexencode(data).decode().rstrip("=").lower(),
        "base32hex padded upper": "T" + base64.b32hexencode(data).decode(),
        "base36": "k" + base36,
        "base36 upper": "K" + base36.upper(),
        "base58btc": "z" + multibase.encode_base58(data),
        "base64": "m" + base64.b64encode(data).decode().rstrip("="),
        "base64 padded": "M" + base64.b64encode(data).decode(),
        "base64url": "u" + base64.urlsafe_b64encode(data).decode().rstrip("="),
        "base64url padded": "U" + base64.urlsafe_b64encode(data).decode(),
    }


@given(some_cids)
def test_every_base_reads_as_the_same_cid_and_only_one_text_is_canonical(cid):
    for text in spellings(cid).values():
        assert cids.parse(text) == cid
        if text != str(cid):
            with pytest.raises(DataError, match="not accepted here") as caught:
                cids.parse_canonical(text)
            assert str(cid) in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bafyb4ifz7j6t3q64ddzrnsb7gvss4gutdwwfa7qfrdsglv6dtmwun34phm", "blake3"),
        (text_of(b"\x01\x55\x13\x40" + bytes(64)), "sha2-512"),
        (text_of(b"\x01\x70\xa0\xe4\x02\x20" + bytes(32)), "blake2b-256"),
        ("f01551b20" + "00" * 32, "keccak-256"),
        (text_of(b"\x01\x71\x12\x20" + bytes(32)), "dag-cbor"),
        (text_of(b"\x01\x55\x12\x14" + bytes(20)), "20 bytes"),
        ("bafkqaaa", "identity"),
    ],
)
def test_a_cid_of_another_kind_is_told_apart_from_what_is_no_cid(text, name):
    with pytest.raises(UnsupportedCidError, match=name):
        cids.parse(text)


@pytest.mark.parametrize(
    "word", ["bafyb4ifz7j6t3q64ddzrnsb7gvss4gutdww", "baeaa", "f0171", "zephyr", "mistral"]
)
def test_a_word_or_a_part_of_a_cid_is_not_an_unsupported_cid(word):
    with pytest.raises(DataError) as caught:
        cids.parse(word)
    assert not isinstance(caught.value, UnsupportedCidError)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_cid_or_a_data_error(data):
    try:
        cid = cids.decode(data)
    except DataError:
        return
    assert data in (bytes(cid), b"\x12\x20" + cid.digest)
