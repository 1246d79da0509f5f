from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import dagpb, unixfs
from reconciler.content.cid import RAW, Cid
from reconciler.content.layout import file_tree, leaf_count
from reconciler.content.profile import CHUNK_SIZE, MAX_LINKS


def distinct_leaves(count: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(count))


def leaves_below(cid, blocks):
    """The (digest, size) of every leaf with its depth, by reading the blocks."""
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


def test_one_leaf_too_many_makes_a_parent_with_a_single_child():
    tree = file_tree((MAX_LINKS + 1) * CHUNK_SIZE, distinct_leaves(MAX_LINKS + 1))

    root = dagpb.decode(tree.blocks[tree.cid])
    assert [len(dagpb.decode(tree.blocks[link.cid]).links) for link in root.links] == [MAX_LINKS, 1]


def test_equal_leaves_share_their_node_and_are_counted_each_time():
    size = 2 * MAX_LINKS * CHUNK_SIZE
    tree = file_tree(size, hashlib.sha256(bytes(CHUNK_SIZE)).digest() * (2 * MAX_LINKS))

    assert len(tree.blocks) == 2
    shared = next(block for cid, block in tree.blocks.items() if cid != tree.cid)
    assert tree.tsize == len(tree.blocks[tree.cid]) + 2 * len(shared) + size


def test_leaves_that_do_not_fit_the_size_are_the_callers_bug():
    with pytest.raises(ValueError, match="leaves"):
        file_tree(CHUNK_SIZE + 1, distinct_leaves(1))
