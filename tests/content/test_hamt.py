from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.content import dagpb, hamt, unixfs
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.content.dagpb import PbLink
from reconciler.content.hamt import murmur3_x64_64
from reconciler.content.unixfs import UnixFs, UnixFsType
from reconciler.errors import DataError

LEAF = Cid(RAW, bytes(32))


def entries_below(root, blocks, path=b""):
    """Iterate over every (name, cid) of the HAMT."""
    node = dagpb.decode(blocks[root])
    entries = hamt.read_shard(node, unixfs.decode(node.data), path)
    for slot, (name, link) in zip(slots(node), entries, strict=True):
        if name:
            yield name, link.cid
        else:
            yield from entries_below(link.cid, blocks, path + bytes((slot,)))


def slots(node):
    return [int(link.name[:2], 16) for link in node.links]


@settings(max_examples=25, deadline=None)
@given(st.sets(st.binary(min_size=1, max_size=40), max_size=600))
def test_reading_a_built_hamt_gives_back_every_entry(names):
    expected = {name: hash_block(RAW, name) for name in names}
    blocks = {}
    root = hamt.build([PbLink(name, cid, 1) for name, cid in expected.items()], blocks)

    assert dict(entries_below(root.cid, blocks)) == expected


def test_the_order_of_the_entries_does_not_matter():
    links = [PbLink(b"%d" % i, LEAF, 1) for i in range(500)]
    blocks, reversed_blocks = {}, {}

    assert hamt.build(links, blocks) == hamt.build(links[::-1], reversed_blocks)
    assert blocks == reversed_blocks


def test_tsize_counts_the_blocks_and_the_entries_below():
    blocks = {}
    root = hamt.build([PbLink(b"%d" % i, LEAF, 7) for i in range(600)], blocks)

    assert len(blocks) > 1
    assert root.tsize == sum(map(len, blocks.values())) + 600 * 7


def test_two_names_with_the_same_key_are_an_error(monkeypatch):
    monkeypatch.setattr(hamt, "slot_key", lambda name: bytes(8))

    with pytest.raises(DataError, match="collide"):
        hamt.build([PbLink(b"a", LEAF, 1), PbLink(b"b", LEAF, 1)], {})


def shard(*names, bitfield=None, hash_type=0x22, fanout=256):
    bits = sum({1 << int(name[:2], 16) for name in names}) if bitfield is None else bitfield
    field = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
    message = UnixFs(UnixFsType.HAMT_SHARD, field, hash_type=hash_type, fanout=fanout)
    return dagpb.PbNode(tuple(PbLink(name, LEAF, 1) for name in names), b""), message


HELLO = b"CBhello"  # its key begins with cb


def test_a_name_in_its_slot_is_read():
    assert hamt.read_shard(*shard(HELLO), b"") == [(b"hello", PbLink(HELLO, LEAF, 1))]


@pytest.mark.parametrize(
    ("broken", "path", "reason"),
    [
        (shard(b"CAhello"), b"", "wrong slot"),
        (shard(HELLO), b"\xcb", "wrong slot"),
        (shard(b"cbhello", bitfield=1 << 0xCB), b"", "hex digits"),
        (shard(b"C", bitfield=1 << 0xC), b"", "hex digits"),
        (shard(b"+1", bitfield=2), b"", "hex digits"),
        (shard(HELLO, HELLO), b"", "two links for one slot"),
        (shard(HELLO, bitfield=0), b"", "bitfield"),
        (shard(HELLO, bitfield=1 << 0xCB | 1), b"", "bitfield"),
        (shard(HELLO, fanout=1024), b"", "fanout 1024"),
        (shard(HELLO, fanout=None), b"", "fanout None"),
        (shard(HELLO, hash_type=0x12), b"", "hash 18"),
        (shard(HELLO), bytes(8), "deeper than 8"),
    ],
)
def test_an_invalid_shard_is_refused(broken, path, reason):
    with pytest.raises(DataError, match=reason):
        hamt.read_shard(*broken, path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # first halves of MurmurHash3_x64_128, seed 0, as the reference implementation prints them
        (b"", 0x0000000000000000),
        (b"hello", 0xCBD8A7B341BD9B02),
        (b"hello, world", 0x342FAC623A5EBC8E),
        (b"The quick brown fox jumps over the lazy dog.", 0xCD99481F9EE902C9),
    ],
)
def test_murmur3_equals_the_reference_implementation(data, expected):
    assert murmur3_x64_64(data) == expected
