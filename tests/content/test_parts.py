"""Parts of a version: each leaf is in one of them, and the directory of a part says where it belongs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.content import profile
from reconciler.content.bundle import Bundle
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.content.dag import Block
from reconciler.content.part_dag import PartDag, read_part
from reconciler.content.patterns import FilePatterns
from reconciler.content.provisional import ProvisionalLayout, provisional_layout
from reconciler.content.remote_listing import remote_listing
from reconciler.content.unixfs_tree import DirectoryEntry, directory_tree, leaf_count
from reconciler.errors import DataError

LEAF = profile.CHUNK_SIZE
KEY = hashlib.sha256(b"key").hexdigest()
SIZES = st.lists(st.one_of(st.integers(0, 3 * LEAF), st.integers(0, 40).map(lambda n: n * LEAF)), max_size=8)


def layout_of(sizes: list[int]) -> ProvisionalLayout:
    files = [(f"file-{number:02}", size) for number, size in enumerate([*sizes, 1])]
    listing = remote_listing(
        str(Path("source")),
        files,
        include_hidden=False,
        patterns=FilePatterns(),
        read_span=lambda file, size, start: b"",
    )
    return provisional_layout(Bundle(listing, manifest=b"{}", generated=("SHA256SUMS", "manifest.json")), {})


def leaves_in(layout: ProvisionalLayout) -> list[tuple[str, int]]:
    return [(file.path, leaf.number) for file in layout.files for leaf in layout.leaves(file)]


@given(sizes=SIZES, count=st.integers(1, 7))
def test_every_leaf_is_in_one_part_and_the_parts_have_equal_shares(sizes: list[int], count: int) -> None:
    whole = layout_of(sizes)
    parts = [whole.part(number, count) for number in range(1, count + 1)]
    assert sorted(leaf for part in parts for leaf in leaves_in(part)) == sorted(leaves_in(whole))
    assert sum(part.size for part in parts) == whole.size
    share = whole.size / count
    for part in parts:
        assert part.size <= 2 * share + LEAF
        for file in part.files:
            numbers = [leaf.number for leaf in part.leaves(file)]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            if len(numbers) < leaf_count(file.stamp.size):
                assert not part.is_whole(file)
                assert file.stamp.size > share, "only large files are divided"
            else:
                assert part.is_whole(file)


@pytest.mark.parametrize("count", [1, 3, 7000])
def test_a_part_is_read_from_its_directory(count: int) -> None:
    blocks = {5 * number: Block(hash_block(RAW, b"%d" % number), 9) for number in range(count)}
    part = PartDag(KEY, blocks, lambda position: b"%d" % (position // 5))
    tree = {part.layout.cid(p): part.read(p) for p in part.layout.tree_positions()}
    assert read_part(part.layout.root, KEY, tree.__getitem__) == {p: b.cid for p, b in blocks.items()}
    assert read_part(part.layout.root, "0" * 64, tree.__getitem__) == {}
    for position in range(0, len(part.layout), 50):
        block = part.layout[position]
        assert hash_block(block.cid.codec, part.read(position)) == block.cid


@pytest.mark.parametrize("names", [("x",), ("-1",), ("1/2",), ("²",), ("1" * 10,), (" 1",)])
def test_a_directory_with_other_names_is_no_part(names: tuple[str, ...]) -> None:
    leaf = hash_block(RAW, b"leaf")
    blocks: dict[Cid, bytes] = {}
    inner = directory_tree(DirectoryEntry(name.partition("/")[0], leaf, 4) for name in names)
    if "/" in names[0]:
        blocks |= inner.blocks
        inner = directory_tree([DirectoryEntry("1", inner.cid, inner.tsize)])
    outer = directory_tree([DirectoryEntry(KEY, inner.cid, inner.tsize)])
    blocks |= {**inner.blocks, **outer.blocks}
    with pytest.raises(DataError):
        read_part(outer.cid, KEY, blocks.__getitem__)
