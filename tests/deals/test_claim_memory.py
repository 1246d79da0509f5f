"""What a service said is remembered for a day, exactly; a file that does not hold says nothing."""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.deals.claim_memory import LASTS, ClaimMemory, Remembered, worth_keeping
from reconciler.deals.interface import Stage
from tests.deals.samples import NOW, PIECES, claim, direct

ENTRIES = {
    PIECES[0]: Remembered(NOW, (claim(0), claim(0, deal_id=9, provider="f09"))),
    PIECES[1]: Remembered(NOW - timedelta(hours=23), (direct(1),)),
    PIECES[2]: Remembered(NOW - LASTS, (claim(2),)),
}


def test_what_is_kept_comes_back_until_a_day_is_over(tmp_path: Path) -> None:
    memory = ClaimMemory(tmp_path / "new" / "memory")
    assert memory.recall(NOW) == {}
    memory.keep(ENTRIES)
    assert memory.recall(NOW) == {piece: ENTRIES[piece] for piece in PIECES[:2]}
    assert memory.recall(NOW + timedelta(hours=2)) == {PIECES[0]: ENTRIES[PIECES[0]]}
    assert memory.recall(NOW + LASTS) == {}
    assert memory.recall(NOW - timedelta(days=2)) == {}, "what comes from the future is not believed"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["memory"]
    memory.keep({})
    assert memory.recall(NOW) == {}


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    memory = ClaimMemory(tmp_path / "file" / "memory")
    memory.keep(ENTRIES)
    assert memory.recall(NOW) == {}
    taken = tmp_path / "taken"
    taken.mkdir()
    ClaimMemory(taken).keep(ENTRIES)
    assert ClaimMemory(taken).recall(NOW) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".taken.new", "file", "taken"]
    for what in ("link", "pipe", "directory"):
        staged = tmp_path / f".{what}.new"
        if what == "link":
            staged.symlink_to(tmp_path / "file")
        elif what == "pipe":
            os.mkfifo(staged)
        else:
            staged.mkdir()
        ClaimMemory(tmp_path / what).keep(ENTRIES)
        assert ClaimMemory(tmp_path / what).recall(NOW) == {}
    assert (tmp_path / "file").read_text() == "in the way"
    (tmp_path / ".good.new").write_text("left by a killed run")
    ClaimMemory(tmp_path / "good").keep(ENTRIES)
    assert len(ClaimMemory(tmp_path / "good").recall(NOW)) == 2
    assert not (tmp_path / ".good.new").exists()


def test_links_and_pipes_that_a_repository_brought_along_are_no_memory(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    ClaimMemory(outside / "memory").keep(ENTRIES)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside / "memory")
    (inside / "null").symlink_to("/dev/zero")
    os.mkfifo(inside / "pipe")
    (inside / "loop").symlink_to("loop")
    for name in ("link", "null", "pipe", "loop"):
        memory = ClaimMemory(inside / name)
        assert memory.recall(NOW) == {}, "and it does not wait for anybody"
        memory.keep({PIECES[0]: ENTRIES[PIECES[0]]})
        assert memory.recall(NOW) == {PIECES[0]: ENTRIES[PIECES[0]]}, "a rename puts a file in its place"
    assert len(ClaimMemory(outside / "memory").recall(NOW)) == 2
    (tmp_path / "deals").symlink_to(outside)
    ClaimMemory(tmp_path / "deals" / "other").keep(ENTRIES)
    assert [path.name for path in outside.iterdir()] == ["memory"], "nothing is written behind a link"


@given(at=st.integers(0, 1 << 14), bit=st.integers(0, 7))
def test_a_flipped_bit_is_a_memory_that_is_not_there(at: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "memory")
        ClaimMemory(path).keep(ENTRIES)
        data = bytearray(path.read_bytes())
        data[at % len(data)] ^= 1 << bit
        path.write_bytes(data)
        assert ClaimMemory(path).recall(NOW) == {}


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
def test_a_file_made_by_hand_is_read_strictly(tmp_path: Path, body: bytes) -> None:
    body = body.replace(b"%s", str(PIECES[0]).encode())
    path = tmp_path / "memory"
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    assert ClaimMemory(path).recall(NOW) == {}


def test_only_deals_with_a_proof_are_worth_keeping() -> None:
    assert worth_keeping([claim(), direct()])
    assert not worth_keeping([])
    assert not worth_keeping([claim(), claim(inclusion=None)])
    assert not worth_keeping([claim(stage=Stage.AGGREGATED)])
    assert not worth_keeping([claim(stage=Stage.QUEUED, inclusion=None, provider=None, deal_id=None)])
