"""Claims are cached for a day, exactly; an invalid file is an empty cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.deals.claim_cache import MAX_AGE, CachedClaims, ClaimCache, is_cacheable
from reconciler.deals.interface import Stage
from tests.deals.samples import NOW, PIECES, claim, direct

ENTRIES = {
    PIECES[0]: CachedClaims(NOW, (claim(0), claim(0, deal_id=9, provider="f09"))),
    PIECES[1]: CachedClaims(NOW - timedelta(hours=23), (direct(1),)),
    PIECES[2]: CachedClaims(NOW - MAX_AGE, (claim(2),)),
}


def test_entries_are_valid_for_a_day(tmp_path: Path) -> None:
    memory = ClaimCache(tmp_path / "new" / "memory")
    assert memory.load(NOW) == {}
    memory.save(ENTRIES)
    assert memory.load(NOW) == {piece: ENTRIES[piece] for piece in PIECES[:2]}
    assert memory.load(NOW + timedelta(hours=2)) == {PIECES[0]: ENTRIES[PIECES[0]]}
    assert memory.load(NOW + MAX_AGE) == {}
    assert memory.load(NOW - timedelta(days=2)) == {}, "an entry from the future is not valid"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["memory"]
    memory.save({})
    assert memory.load(NOW) == {}


def test_a_cache_that_cannot_be_written_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    memory = ClaimCache(tmp_path / "file" / "memory")
    memory.save(ENTRIES)
    assert memory.load(NOW) == {}
    taken = tmp_path / "taken"
    taken.mkdir()
    ClaimCache(taken).save(ENTRIES)
    assert ClaimCache(taken).load(NOW) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]
    for what in ("link", "pipe", "directory"):
        staged = tmp_path / f".{what}.new"
        if what == "link":
            staged.symlink_to(tmp_path / "file")
        elif what == "pipe":
            os.mkfifo(staged)
        else:
            staged.mkdir()
        ClaimCache(tmp_path / what).save(ENTRIES)
        assert ClaimCache(tmp_path / what).load(NOW) == {}
    assert (tmp_path / "file").read_text() == "in the way"
    (tmp_path / ".good.new").write_text("left by a killed run")
    ClaimCache(tmp_path / "good").save(ENTRIES)
    assert len(ClaimCache(tmp_path / "good").load(NOW)) == 2
    assert not (tmp_path / ".good.new").exists()


def test_links_and_pipes_in_a_repository_are_not_read_as_a_cache(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    ClaimCache(outside / "memory").save(ENTRIES)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside / "memory")
    (inside / "null").symlink_to("/dev/zero")
    os.mkfifo(inside / "pipe")
    (inside / "loop").symlink_to("loop")
    for name in ("link", "null", "pipe", "loop"):
        memory = ClaimCache(inside / name)
        assert memory.load(NOW) == {}, "and the read does not block"
        memory.save({PIECES[0]: ENTRIES[PIECES[0]]})
        assert memory.load(NOW) == {PIECES[0]: ENTRIES[PIECES[0]]}, "a rename puts a file in its place"
    assert len(ClaimCache(outside / "memory").load(NOW)) == 2
    (tmp_path / "deals").symlink_to(outside)
    ClaimCache(tmp_path / "deals" / "other").save(ENTRIES)
    assert [path.name for path in outside.iterdir()] == ["memory"], "nothing is written behind a link"


@given(at=st.integers(0, 1 << 14), bit=st.integers(0, 7))
def test_a_cache_with_a_flipped_bit_is_empty(at: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "memory")
        ClaimCache(path).save(ENTRIES)
        data = bytearray(path.read_bytes())
        data[at % len(data)] ^= 1 << bit
        path.write_bytes(data)
        assert ClaimCache(path).load(NOW) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b'{"bafy": {}}', b'{"%s": 1}', b'{"%s": {"at": "now", "deals": []}}',
        b'{"%s": {"at": 1e300, "deals": []}}', b'{"%s": {"at": 0, "deals": [{}]}}', b"\xff", b"[" * 100_000,
        b'{"%s": {"at": 0, "deals": [{"aggregate": "%s", "subtree": ["0", ""], "index": [0, ""], '
        b'"provider": "f01", "deal": 1}]}}',
        b'{"%s": {"at": 0, "deals": [{"aggregate": "%s", "subtree": [0, ""], "index": [0, ""], '
        b'"provider": "f01", "deal": -1}]}}',
    ],
)  # fmt: skip
def test_a_forged_file_is_read_strictly(tmp_path: Path, body: bytes) -> None:
    body = body.replace(b"%s", str(PIECES[0]).encode())
    path = tmp_path / "memory"
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    assert ClaimCache(path).load(NOW) == {}


def test_only_deals_with_a_proof_are_cacheable() -> None:
    assert is_cacheable([claim(), direct()])
    assert not is_cacheable([])
    assert not is_cacheable([claim(), claim(inclusion=None)])
    assert not is_cacheable([claim(stage=Stage.AGGREGATED)])
    assert not is_cacheable([claim(stage=Stage.QUEUED, inclusion=None, provider=None, deal_id=None)])
