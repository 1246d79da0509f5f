"""Merkle trees and tiles: what holds for every size."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import DataError
from reconciler.trust.log import recompute
from reconciler.trust.merkle import (
    EMPTY_ROOT,
    GrowingTree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from reconciler.trust.tiles import (
    TileHashes,
    entries_path,
    log_files,
    make_tiles,
    pack_entries,
    read_entries,
    tile_path,
    unpack_entries,
)

ENTRIES = [f'{{"version":"1.{number}.0"}}'.encode() for number in range(600)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]

sizes = st.integers(1, len(ENTRIES))


def by_definition(leaves: list[bytes]) -> bytes:
    """Return the root as RFC 6962 defines it."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


def reader(size: int) -> TileHashes:
    return TileHashes(size, make_tiles(ENTRIES[:size], LEAVES[:size]).get)


@given(sizes)
def test_the_root_is_that_of_the_definition(size: int) -> None:
    assert tree_root(LEAVES[:size]) == by_definition(LEAVES[:size])


def test_the_root_of_the_test_vectors_of_rfc_6962() -> None:
    entries = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")]
    assert tree_root(map(leaf_hash, entries)).hex() == (
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"
    )


@given(st.data(), sizes)
def test_every_entry_has_a_proof_and_no_other_entry_has_it(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    root = tree_root(LEAVES[:size])
    proof = inclusion_proof(index, size, reader(size))
    verify_inclusion(LEAVES[index], index, size, proof, root)
    assert len(proof) <= (size - 1).bit_length()
    other = data.draw(
        st.integers(0, size - 1).filter(lambda number: number != index) if size > 1 else st.none()
    )
    for leaf, number in ((leaf_hash(b"other"), index), (LEAVES[index], other)):
        if number is not None:
            with pytest.raises(DataError):
                verify_inclusion(leaf, number, size, proof, root)
    for wrong in ((*proof, root), proof[:-1]):
        if wrong != proof:
            with pytest.raises(DataError):
                verify_inclusion(LEAVES[index], index, size, wrong, root)


@given(st.data(), sizes)
def test_a_log_is_consistent_with_each_of_its_beginnings_and_with_no_other(
    data: st.DataObject, size: int
) -> None:
    old = data.draw(st.integers(0, size))
    before, after = tree_root(LEAVES[:old]), tree_root(LEAVES[:size])
    proof = consistency_proof(old, size, reader(size))
    verify_consistency(old, size, proof, before, after)
    forged = hashlib.sha256(before).digest()
    with pytest.raises(DataError):
        verify_consistency(old, size, proof, forged, after)
    if proof:
        for wrong in (proof[:-1], (*proof, forged), (forged, *proof[1:])):
            with pytest.raises(DataError):
                verify_consistency(old, size, wrong, before, after)


def test_all_proofs_of_small_trees() -> None:
    for size in range(1, 40):
        read, root = reader(size), tree_root(LEAVES[:size])
        for index in range(size):
            verify_inclusion(LEAVES[index], index, size, inclusion_proof(index, size, read), root)
        for old in range(size + 1):
            proof = consistency_proof(old, size, read)
            verify_consistency(old, size, proof, tree_root(LEAVES[:old]), root)


def test_a_log_cannot_be_consistent_with_a_longer_one() -> None:
    with pytest.raises(DataError, match="cannot begin"):
        verify_consistency(3, 2, (), tree_root(LEAVES[:3]), tree_root(LEAVES[:2]))


@given(st.data(), sizes)
def test_tiles_written_step_by_step_are_those_written_at_once(data: st.DataObject, size: int) -> None:
    start = data.draw(st.integers(0, size))
    files = make_tiles(ENTRIES[:start], LEAVES[:start])
    files |= make_tiles(ENTRIES[:size], LEAVES[:size], start)
    whole = make_tiles(ENTRIES[:size], LEAVES[:size])
    assert {path: files[path] for path in whole} == whole
    assert set(whole) == set(log_files(size))
    assert list(read_entries(size, files.get)) == ENTRIES[:size]


@given(sizes, st.lists(sizes, max_size=5))
def test_the_roots_at_earlier_sizes_are_those_of_the_shorter_logs(size: int, earlier: list[int]) -> None:
    asked = [each for each in earlier if each <= size]
    found = recompute(ENTRIES[:size], asked)
    assert found.roots is not None
    for each in (*asked, size, 0):
        assert found.roots[each] == tree_root(LEAVES[:each])


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_tile_of_entries_gives_them_back(entries: list[bytes]) -> None:
    assert unpack_entries(pack_entries(entries), len(entries), "tile") == entries


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5), st.integers(1, 200))
def test_a_tile_of_entries_that_was_cut_or_has_more_is_refused(entries: list[bytes], cut: int) -> None:
    data = pack_entries(entries)
    for wrong in (data[: -min(cut, len(data))], data + b"\x00"):
        with pytest.raises(DataError, match="does not have exactly"):
            unpack_entries(wrong, len(entries), "tile")


def test_an_entry_larger_than_its_length_field_is_refused() -> None:
    with pytest.raises(DataError, match="65536"):
        pack_entries([bytes(65_536)])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (tile_path(0, 0), "tile/0/000"),
        (tile_path(1, 0, 2), "tile/1/000.p/2"),
        (tile_path(0, 1234067), "tile/0/x001/x234/067"),
        (entries_path(1000, 5), "tile/entries/x001/000.p/5"),
    ],
)
def test_paths_of_tiles(path: str, expected: str) -> None:
    assert path == expected


def test_a_missing_tile_and_one_of_another_size_are_named() -> None:
    files = make_tiles(ENTRIES[:300], LEAVES[:300])
    without = {path: data for path, data in files.items() if path != "tile/0/001.p/44"}
    with pytest.raises(DataError, match=r"has no tile/0/001.p/44"):
        TileHashes(300, without.get)(0, 299)
    with pytest.raises(DataError, match="tile/0/000 has 8191 bytes, not 8192"):
        TileHashes(300, {**files, "tile/0/000": files["tile/0/000"][:-1]}.get)(0, 3)


def test_memory_of_a_growing_tree_is_logarithmic() -> None:
    tree = GrowingTree()
    for leaf in LEAVES:
        tree.append(leaf)
    assert len(tree._complete) <= len(LEAVES).bit_length()
