"""`pieces`: of a file, of a version from its bytes or its record, and usage errors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.pieces import piece_of
from tests.support.releases import assert_document

RECORD = "releases/records/llm/1.0.0.json"


def test_the_piece_of_a_file_is_that_of_its_very_bytes(empty: CommandLine) -> None:
    """The vector of FRC-0069; no index is needed, and nothing is written."""
    data = b"".join(bytes([value]) * 127 for value in range(4))
    (empty.root / "data").write_bytes(data)
    before = empty.files()
    done = empty("pieces", "data", "--json")
    assert done.code == 0
    assert_document("pieces", done.document)
    (piece,) = done.document
    assert piece["piece"] == "bafkzcibcaaces3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"
    assert piece["piece_v1"] == "baga6ea4seaqes3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi"
    assert (piece["size"], piece["padded_size"]) == (508, 512)
    assert empty.files() == before


def test_the_pieces_of_a_version_are_those_of_its_exported_car(reconcile: CommandLine) -> None:
    assert reconcile().code == 0
    assert reconcile("export", "llm@1.0.0", "v.car").code == 0
    data = (reconcile.root / "v.car").read_bytes()
    (from_file,) = reconcile("pieces", "v.car", "--json").document
    done = reconcile("pieces", "llm@1.0.0", "--json")
    assert_document("pieces", done.document)
    assert done.document == [from_file]
    assert from_file["piece"] == str(piece_of([data]))
    assert reconcile("pieces", "llm@1.0.0").out == f"{from_file['piece']}  {len(data)}  {from_file['car']}\n"


def test_a_version_is_cut_and_every_car_names_its_root(reconcile: CommandLine) -> None:
    (reconcile.root / "weights/llm/1.0.0/more.bin").write_bytes(bytes(1 << 20) + bytes(range(256)) * 4096)
    assert reconcile().code == 0
    done = reconcile("pieces", "llm@1.0.0", "--json", "--max-piece", "1200000")
    assert len(done.document) == 2
    assert all(piece["size"] <= 1_200_000 for piece in done.document)
    assert "2 pieces" in reconcile("pieces", "llm@1.0.0", "--max-piece", "1200000").err


@pytest.fixture
def recorded(reconcile: CommandLine) -> CommandLine:
    """A version whose record has pieces."""
    assert reconcile().code == 0
    (piece,) = reconcile("pieces", "llm@1.0.0", "--json").document
    path = reconcile.root / RECORD
    shard = {key: piece[key] for key in ("car", "size", "piece")}
    path.write_text(
        json.dumps(
            json.loads(path.read_text())
            | {"pieces": [{"max_bytes": 133_169_152, "roots": "last", "shards": [shard]}]}
        )
    )
    return reconcile


def test_recorded_pieces_are_printed_without_the_bytes(recorded: CommandLine) -> None:
    before = recorded("pieces", "llm@1.0.0", "--no-cache")
    for file in (recorded.root / "weights/llm/1.0.0").iterdir():
        file.unlink()
    for file in (recorded.root / ".reconcile/store").rglob("*.car"):
        file.unlink()
    after = recorded("pieces", "llm@1.0.0")
    assert (after.code, after.out) == (0, before.out)
    assert "from the record" in after.err
    assert recorded("pieces", "llm@1.0.0", "--max-piece", "133169152").out == before.out


def test_a_record_that_says_other_pieces_is_found_out(recorded: CommandLine) -> None:
    path = recorded.root / RECORD
    (piece,) = recorded("pieces", "llm@1.0.0", "--json").document
    other = piece_of([hashlib.sha256(b"other").digest() * 40])
    wrong = type(other)(other.root, *_shape(piece["size"]))
    path.write_text(path.read_text().replace(piece["piece"], str(wrong)))
    done = recorded("pieces", "llm@1.0.0", "--no-cache")
    assert (done.code, done.out) == (1, "")
    assert piece["piece"] in done.err
    assert str(wrong) in done.err


def _shape(size: int) -> tuple[int, int]:
    from reconciler.content.piece_cid import capacity, height_for

    height = height_for(size)
    return height, capacity(height) - size


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["weights"], 2, "is a directory"),
        (["llm@9.0.0"], 2, "9.0.0"),
        (["llm@1.0.0", "--max-piece", "127"], 2, "127"),
        (["llm@1.0.0", "--max-piece", "200"], 2, "does not fit a CAR of 200"),
        (["small"], 1, "64 bytes are too few for a piece"),
        (["releases/index.yaml", "--max-piece", "128"], 2, "more than --max-piece allows"),
    ],
)
def test_pieces_names_what_has_none(
    reconcile: CommandLine, arguments: list[str], code: int, said: str
) -> None:
    (reconcile.root / "small").write_bytes(bytes(64))
    assert reconcile().code == 0
    done = reconcile("pieces", *arguments, "--json")
    assert done.code == code
    assert said in done.err
    assert "error" in done.out or done.out == ""
    assert list(Path(reconcile.root).glob("*.car")) == []
