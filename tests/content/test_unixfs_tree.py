from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import dagpb, unixfs
from reconciler.content.cid import RAW, Cid
from reconciler.content.profile import CHUNK_SIZE, DIRECTORY_BLOCK_LIMIT, MAX_LINKS
from reconciler.content.unixfs import UnixFsType
from reconciler.content.unixfs_tree import DirectoryEntry, directory_tree, file_tree, leaf_count


def distinct_leaves(count: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(count))


def leaves_below(cid, blocks):
    """Iterate over digest, size and depth of every leaf, read from the blocks."""
    if cid not in blocks:
        raise KeyError(cid)
    node = dagpb.decode(blocks[cid])
    for link, size in zip(node.links, unixfs.decode(node.data).block_sizes, strict=True):
        if link.cid.codec == RAW:
            assert link.tsize == size
            yield link.cid.digest, size, 1
        else:
            yield from ((digest, part, depth + 1) for digest, part, depth in leaves_below(link.cid, blocks))


@pytest.mark.parametrize(
    ("size", "count"),
    [(0, 1), (1, 1), (CHUNK_SIZE, 1), (CHUNK_SIZE + 1, 2), (MAX_LINKS * CHUNK_SIZE + 1, MAX_LINKS + 1)],
)
def test_a_file_has_one_leaf_a_chunk_and_an_empty_one_has_one(size, count):
    assert leaf_count(size) == count


@pytest.mark.parametrize("size", [0, 5, CHUNK_SIZE])
def test_up_to_one_chunk_a_file_is_its_raw_block(size):
    digest = distinct_leaves(1)

    tree = file_tree(size, digest)

    assert (tree.cid, tree.tsize, tree.size, dict(tree.blocks)) == (Cid(RAW, digest), size, size, {})


@given(st.integers(2, 3000), st.integers(1, CHUNK_SIZE))
def test_the_tree_holds_the_leaves_in_order_at_one_depth(count, last):
    leaves = distinct_leaves(count)
    size = (count - 1) * CHUNK_SIZE + last

    tree = file_tree(size, leaves)

    below = list(leaves_below(tree.cid, tree.blocks))
    assert b"".join(digest for digest, _, _ in below) == leaves
    assert [part for _, part, _ in below] == [CHUNK_SIZE] * (count - 1) + [last]
    assert len({depth for _, _, depth in below}) == 1
    assert all(cid.matches(block) for cid, block in tree.blocks.items())


def test_one_leaf_above_max_links_gets_a_parent_of_its_own():
    tree = file_tree((MAX_LINKS + 1) * CHUNK_SIZE, distinct_leaves(MAX_LINKS + 1))

    root = dagpb.decode(tree.blocks[tree.cid])
    assert [len(dagpb.decode(tree.blocks[link.cid]).links) for link in root.links] == [MAX_LINKS, 1]


def test_equal_leaves_share_their_node_and_are_counted_each_time():
    size = 2 * MAX_LINKS * CHUNK_SIZE
    tree = file_tree(size, hashlib.sha256(bytes(CHUNK_SIZE)).digest() * (2 * MAX_LINKS))

    assert len(tree.blocks) == 2
    shared = next(block for cid, block in tree.blocks.items() if cid != tree.cid)
    assert tree.tsize == len(tree.blocks[tree.cid]) + 2 * len(shared) + size


def test_leaves_that_do_not_match_the_size_are_a_value_error():
    with pytest.raises(ValueError, match="leaves"):
        file_tree(CHUNK_SIZE + 1, distinct_leaves(1))


LEAF = Cid(RAW, bytes(32))


def kind(tree):
    return unixfs.decode(dagpb.decode(tree.blocks[tree.cid]).data).kind


def directory_of_block_size(size: int):
    """Return a directory whose basic block would have exactly `size` bytes."""
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


def test_two_entries_of_one_name_are_a_value_error():
    with pytest.raises(ValueError, match="share a name"):
        directory_tree(
            [DirectoryEntry("a", LEAF, 1), DirectoryEntry("b", LEAF, 1), DirectoryEntry("a", LEAF, 2)]
        )
