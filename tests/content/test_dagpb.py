from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import dagpb, varint
from reconciler.content.cid import DAG_PB, RAW, Cid
from reconciler.content.dagpb import PbLink, PbNode
from reconciler.errors import DataError

LEAF = Cid(RAW, bytes(range(32)))
HASH = b"\x0a\x24" + bytes(LEAF)

cids = st.builds(Cid, st.sampled_from([RAW, DAG_PB]), st.binary(min_size=32, max_size=32))
links = st.builds(PbLink, st.binary(max_size=300), cids, st.integers(0, 2**63 - 1))
nodes = st.builds(PbNode, st.lists(links, max_size=5).map(tuple), st.binary(max_size=300))


def link_field(body: bytes) -> bytes:
    return b"\x12" + varint.encode(len(body)) + body


@given(nodes)
def test_decoding_gives_back_what_was_encoded(node):
    assert dagpb.decode(dagpb.encode(node.links, node.data)) == node


@given(st.lists(links, max_size=5), st.binary(max_size=20))
def test_link_size_is_exact(some, data):
    sizes = sum(dagpb.link_size(len(link.name), link.tsize) for link in some)

    assert len(dagpb.encode(some, data)) == sizes + 2 + len(data)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_a_data_error(data):
    with contextlib.suppress(DataError):
        dagpb.decode(data)


@given(nodes, st.data())
def test_a_changed_byte_decodes_or_is_a_data_error(node, data):
    block = bytearray(dagpb.encode(node.links, node.data))
    place = data.draw(st.integers(0, len(block) - 1))
    block[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(DataError):
        dagpb.decode(bytes(block))


def test_links_are_written_before_data():
    block = dagpb.encode([PbLink(b"a", LEAF, 1)], b"\x08\x01")

    assert block == link_field(HASH + b"\x12\x01a\x18\x01") + b"\x0a\x02\x08\x01"


def test_data_before_links_is_read_as_well():
    link = link_field(HASH + b"\x12\x00\x18\x05")

    assert dagpb.decode(b"\x0a\x01x" + link) == dagpb.decode(link + b"\x0a\x01x")


def test_a_missing_name_and_size_are_empty_and_zero():
    assert dagpb.decode(link_field(HASH)).links == (PbLink(b"", LEAF, 0),)


def test_a_cid_v0_in_a_link_is_the_dag_pb_block_of_that_digest():
    assert dagpb.decode(link_field(b"\x0a\x22\x12\x20" + bytes(32))).links[0].cid == Cid(DAG_PB, bytes(32))


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x1a\x00", "unknown field"),
        (b"\x08\x01", "unknown field"),
        (b"\x0a\x01x\x0a\x01x", "two data fields"),
        (link_field(HASH) + b"\x0a\x00" + link_field(HASH), "before and after"),
        (link_field(b"\x12\x01a"), "no CID"),
        (link_field(HASH + HASH), "repeated or unordered"),
        (link_field(b"\x12\x01a" + HASH), "repeated or unordered"),
        (link_field(HASH + b"\x22\x00"), "unknown field"),
        (link_field(HASH + b"\x12\x81\x08" + b"a" * 1025), "longer than 1024"),
        (link_field(b"\x0a\x25" + bytes(LEAF) + b"x"), "trailing bytes"),
        (link_field(b"\x0a\x04\x01\x71\x12\x20"), "dag-cbor"),
        (link_field(b"\x0a\x06\x01\x55\x00\x02ab"), "hash identity"),
        (b"\x0a\x05abc", "truncated"),
        (b"\x0a\x81\x00x", "minimal"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "nine bytes"),
        (link_field(HASH) * (dagpb.MAX_LINKS + 1), "more than 32768 links"),
    ],
)
def test_what_the_specification_excludes_is_refused(block, reason):
    with pytest.raises(DataError, match=reason):
        dagpb.decode(block)
