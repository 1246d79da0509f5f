from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import dagpb, unixfs
from reconciler.content.cid import RAW, Cid
from reconciler.content.layout import DirectoryEntry, directory_tree
from reconciler.content.profile import DIRECTORY_BLOCK_LIMIT
from reconciler.content.unixfs import UnixFsType

LEAF = Cid(RAW, bytes(32))


def kind(tree):
    return unixfs.decode(dagpb.decode(tree.blocks[tree.cid]).data).kind


def directory_of_block_size(size: int):
    """A directory whose basic block would have exactly `size` bytes."""
    rest, entries = size - 4, []
    while rest > 500:
        entries.append(DirectoryEntry(f"{len(entries):0251}", LEAF, 1))
        rest -= dagpb.link_size(251, 1)
    name = next(n for n in range(1, 600) if dagpb.link_size(n, 1) == rest)
    return directory_tree([*entries, DirectoryEntry("z" * name, LEAF, 1)])


def test_an_empty_directory_is_four_bytes():
    tree = directory_tree([])

    assert tree.blocks[tree.cid] == bytes.fromhex("0a020801")
    assert (tree.tsize, tree.size) == (4, 0)


def test_a_block_of_exactly_the_limit_stays_and_one_byte_more_is_sharded():
    at, over = (
        directory_of_block_size(DIRECTORY_BLOCK_LIMIT),
        directory_of_block_size(DIRECTORY_BLOCK_LIMIT + 1),
    )

    assert (kind(at), len(at.blocks[at.cid])) == (UnixFsType.DIRECTORY, DIRECTORY_BLOCK_LIMIT)
    assert kind(over) is UnixFsType.HAMT_SHARD


def test_links_are_sorted_by_utf8_bytes():
    names = ["\U0001f600", "￿", "z", "é", "e\u0301", "B", "a"]  # UTF-16 order differs for the first two

    tree = directory_tree(DirectoryEntry(name, LEAF, 1) for name in names)

    found = [link.name for link in dagpb.decode(tree.blocks[tree.cid]).links]
    assert found == sorted(name.encode() for name in names)
    assert found[-1] == "\U0001f600".encode()


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 2**40)))
def test_the_order_of_the_entries_does_not_matter_and_tsize_adds_up(sizes):
    entries = [DirectoryEntry(name, LEAF, size) for name, size in sizes.items()]

    tree = directory_tree(entries)

    assert tree == directory_tree(entries[::-1])
    assert tree.tsize == sum(map(len, tree.blocks.values())) + sum(sizes.values())


def test_two_entries_of_one_name_are_the_callers_bug():
    with pytest.raises(ValueError, match="share a name"):
        directory_tree(
            [DirectoryEntry("a", LEAF, 1), DirectoryEntry("b", LEAF, 1), DirectoryEntry("a", LEAF, 2)]
        )
