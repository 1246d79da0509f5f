"""Leaves of versions, and whole logs that were damaged, rewritten or extended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import DataError, TrustError
from reconciler.trust.checkpoint import checkpoint_text, parse_checkpoint
from reconciler.trust.leaves import (
    LeafEvent,
    LoggedState,
    LogLeaf,
    new_leaves,
    parse_leaf,
    parse_leaf_file,
    read_chain,
    replay,
)
from reconciler.trust.log import check_chains, extension, parse_entries, read_log, recompute
from reconciler.trust.note import NoteSignature, SignedNote
from reconciler.trust.tiles import make_tiles

CID = "bafybeie7egduoa3ccp7w4id2usaobz6x6icpblykbti5dj2wenmqwe27pe"
OTHER = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"


def release(number: int, cid: str = CID) -> LogLeaf:
    return LogLeaf("acme", "org/Model", f"1.{number}.0", 1, LeafEvent.RELEASE, cid, "ab" * 32)


LEAVES = [release(number) for number in range(300)]
ENTRIES = [leaf.entry() for leaf in LEAVES]
LOG = recompute(ENTRIES, range(301))
FILES = make_tiles(LOG.entries, LOG.hashes)

states = st.builds(
    LoggedState,
    cid=st.just(CID),
    record=st.sampled_from(["", "aa" * 32, "bb" * 32]),
    yanked=st.sampled_from(["", 'wrong "tokenizer"', "störend\n2"]),
    retired=st.booleans(),
    removed=st.booleans(),
)


def test_a_leaf_is_one_line_of_json_with_sorted_keys() -> None:
    assert LEAVES[7].entry() == (
        b'{"cid":"%s","event":"release","index":"acme","model":"org/Model","number":1,"record":"%s",'
        b'"version":"1.7.0"}' % (CID.encode(), b"ab" * 32)
    )
    assert LEAVES[7].path == "leaves/org/Model@1.7.0.1.json"
    assert parse_leaf_file(LEAVES[7].file(), LEAVES[7].path) == LEAVES[7]


@given(st.lists(states, min_size=1, max_size=6))
def test_the_leaves_lead_to_each_state_and_then_nothing_is_left(wanted: list[LoggedState]) -> None:
    chain: tuple[LogLeaf, ...] = ()
    for now in wanted:
        chain += new_leaves("acme", "m", "1.0.0", chain, now)
        assert new_leaves("acme", "m", "1.0.0", chain, now) == ()
        if not chain:
            assert now.removed
            continue
        found = replay(chain)
        assert found.removed == now.removed
        if not now.removed:
            assert (found.yanked, found.retired) == (now.yanked, now.retired)
            assert now.record in ("", found.record)
    assert len({leaf.entry() for leaf in chain}) == len(chain)
    assert [parse_leaf(leaf.entry(), "it") for leaf in chain] == list(chain)
    files = {leaf.path: leaf.file() for leaf in chain}
    assert read_chain(files.get, "m", "1.0.0") == chain


def test_a_version_without_a_cid_has_no_leaf() -> None:
    assert new_leaves("acme", "m", "1.0.0", (), LoggedState()) == ()


def test_a_version_that_was_logged_with_another_cid_is_refused() -> None:
    with pytest.raises(TrustError, match=f"was logged as {CID}, and is {OTHER} now"):
        new_leaves("acme", "m", "1.0.0", (replace(release(0), model="m"),), LoggedState(OTHER))


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"{}",
        ENTRIES[0] + b"\n",
        ENTRIES[0].replace(b'"number":1', b'"number":01'),
        ENTRIES[0].replace(b'"number":1', b'"number":0'),
        ENTRIES[0].replace(b'"index"', b' "index"'),
        ENTRIES[0].replace(b"release", b"unknown"),
        ENTRIES[0].replace(b"org/Model", b"../../x"),
        ENTRIES[0].replace(b"1.0.0", b"1/0"),
        ENTRIES[0].replace(CID.encode(), b"Qm"),
        ENTRIES[0].replace(b"}", b',"x":1}'),
        ENTRIES[0].replace(b'"record"', b'"reason":"\\u0061","record"'),
        ENTRIES[0].replace(b"acme", b"\xff"),
    ],
)
def test_anything_but_the_one_form_is_no_leaf(entry: bytes) -> None:
    with pytest.raises(DataError, match="it is not a leaf"):
        parse_leaf(entry, "it")


def test_the_file_of_a_leaf_must_be_at_its_own_path() -> None:
    with pytest.raises(DataError, match=r"has the leaf of leaves/org/Model@1.0.0.1.json"):
        parse_leaf_file(LEAVES[0].file(), LEAVES[1].path)
    with pytest.raises(DataError, match="has the leaf of"):
        parse_leaf_file(LEAVES[0].entry(), LEAVES[0].path)


# --- whole logs


def checkpoint(size: int, root: bytes):
    note = SignedNote(checkpoint_text("acme", size, root), (NoteSignature("x", bytes(4), b"x"),))
    return parse_checkpoint(note.encode())


def test_a_log_is_recomputed_from_its_entries() -> None:
    found = read_log(300, FILES.get, [17])
    assert found.hashes == LOG.hashes
    found.check(checkpoint(17, LOG.roots[17]), "it")


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_missing_and_an_altered_tile_are_named(path: str) -> None:
    without = {name: data for name, data in FILES.items() if name != path}
    with pytest.raises(DataError, match=f"the log has no {path}"):
        read_log(300, without.get)
    altered = bytearray(FILES[path])
    altered[-1] ^= 1
    with pytest.raises(DataError, match="does not follow from its entries"):
        read_log(300, {**FILES, path: bytes(altered)}.get)
    with pytest.raises(DataError, match="does not"):
        read_log(300, {**FILES, path: FILES[path][:-1]}.get)


def test_a_truncated_and_a_rewritten_log_contradict_their_checkpoints() -> None:
    shorter = recompute(ENTRIES[:299])
    with pytest.raises(TrustError, match="about 300 entries, and the log has 299: it was truncated"):
        shorter.check(checkpoint(300, LOG.roots[300]), "the checkpoint")
    rewritten = recompute([release(0, OTHER).entry(), *ENTRIES[1:]], [40])
    for size in (40, 300):  # an earlier checkpoint, and another root of the same size
        with pytest.raises(TrustError, match=f"for {size} entries.*history was rewritten"):
            rewritten.check(checkpoint(size, LOG.roots[size]), "the checkpoint")


def test_a_leaf_that_occurs_twice_is_refused() -> None:
    with pytest.raises(TrustError, match="entries 3 and 5 of the log are the same leaf"):
        list(parse_entries([*ENTRIES[:5], ENTRIES[3]], "acme"))
    with pytest.raises(TrustError, match="has this leaf already"):
        extension(LOG, [LEAVES[3]])
    with pytest.raises(TrustError, match="has this leaf already"):
        extension(LOG, [release(400), release(400)])


def test_a_leaf_of_another_index_is_refused() -> None:
    with pytest.raises(TrustError, match="entry 0 of the log is of the index 'acme', not of 'other'"):
        list(parse_entries(ENTRIES[:1], "other"))


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        (replace(release(0, OTHER), number=2, event=LeafEvent.RETIRE), "was logged as .* leaf 2"),
        (replace(release(0), number=3, event=LeafEvent.RETIRE), "leaf 3 follows leaf 1"),
        (replace(release(0), number=2), "leaf 2 is a release"),
        (replace(release(0, OTHER), number=1), "leaf 1 follows leaf 1"),
    ],
)
def test_leaves_of_one_version_that_contradict_each_other_are_refused(leaf: LogLeaf, expected: str) -> None:
    with pytest.raises(TrustError, match=expected):
        check_chains([LEAVES[0], LEAVES[1], leaf])


def test_the_first_leaf_of_a_version_is_its_release() -> None:
    with pytest.raises(TrustError, match="leaf 1 is a yank"):
        check_chains([replace(LEAVES[0], event=LeafEvent.YANK)])


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_log_that_was_extended_is_the_log_of_all_leaves(first: int, second: int) -> None:
    start, end = sorted((first, second))
    begun = recompute(ENTRIES[:start])
    longer, files = extension(begun, LEAVES[start:end])
    assert longer.hashes == LOG.hashes[:end]
    assert read_log(end, {**make_tiles(begun.entries, begun.hashes), **files}.get).size == end
