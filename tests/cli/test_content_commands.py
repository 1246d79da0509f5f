"""`identify`, `resolve`, `verify`, `export`, `pieces`: results, exit codes, and effects of a failure."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from reconciler.content.car_dag import open_car
from reconciler.progress import QUIET
from tests.support.command_line import CommandLine
from tests.support.pieces import piece_of
from tests.support.releases import assert_document
from tests.support.store_files import harm
from tests.support.unpack import unpack

CID = r"bafybei[a-z2-7]{52}"


# -- identify ------------------------------------------------------------------------------------------------


def test_identify_gives_the_cid_that_a_run_gives(reconcile: CommandLine) -> None:
    arguments = ["--model", "llm", "--version", "1.0.0", "--format", "safetensors"]
    arguments += ["--created-at", "2026-05-01T00:00:00Z"]
    before = reconcile.files()
    done = reconcile("identify", "weights/llm/1.0.0", *arguments)
    assert done.code == 0
    assert re.fullmatch(rf"{CID}\n", done.out)
    assert "4 files" in done.err
    assert "SHA256SUMS and manifest.json generated" in done.err
    assert reconcile.files() == before
    reconcile()
    assert reconcile("resolve", "llm@1.0.0").out == done.out


def test_identify_as_json_says_what_the_contract_names(reconcile: CommandLine) -> None:
    document = reconcile("identify", "weights/llm/1.0.0", "--json").document
    assert {"root", "size", "blocks", "files", "car_size", "dirhash"} <= document.keys()
    assert [file["path"] for file in document["files"]] == [
        "SHA256SUMS",
        "config.json",
        "manifest.json",
        "model.safetensors",
    ]
    assert document["generated"] == ["SHA256SUMS", "manifest.json"]
    assert document["size"] == sum(file["size"] for file in document["files"])


def test_identify_needs_no_index(empty: CommandLine) -> None:
    """The roots of the public vectors: a file, and an empty directory."""
    empty.write("hello.txt", "hello world")
    done = empty("identify", "hello.txt", "--bare")
    assert done.out == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e\n"
    (empty.root / "none").mkdir()
    done = empty("identify", "none", "--bare", "--json")
    assert done.document["root"] == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    assert not (empty.root / ".reconcile").exists()


def test_identify_bare_adds_nothing_and_hidden_takes_dot_files(reconcile: CommandLine) -> None:
    reconcile.write("weights/llm/1.0.0/.secret", "x")
    without = reconcile("identify", "weights/llm/1.0.0", "--bare", "--json").document
    assert [file["path"] for file in without["files"]] == ["config.json", "model.safetensors"]
    assert without["dirhash"] is None
    with_hidden = reconcile("identify", "weights/llm/1.0.0", "--bare", "--hidden", "--json").document
    assert next(file["path"] for file in with_hidden["files"]) == ".secret"
    assert "1 hidden entry skipped" in reconcile("identify", "weights/llm/1.0.0").err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 2, "no such directory: 'nowhere'"),
        (["releases/index.yaml"], 2, "not a directory: 'releases/index.yaml'"),
        (["none"], 1, "no files to pack"),
        (["linked"], 1, "symbolic link"),
        (["fifo", "--bare"], 1, "'pipe'"),
    ],
)
def test_identify_names_what_it_cannot_read(
    reconcile: CommandLine, arguments: list[str], code: int, message: str
) -> None:
    (reconcile.root / "none").mkdir()
    (reconcile.root / "linked").mkdir()
    (reconcile.root / "linked/out").symlink_to("/etc/passwd")
    (reconcile.root / "fifo").mkdir()
    os.mkfifo(reconcile.root / "fifo/pipe")
    done = reconcile("identify", *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert len(done.err.splitlines()) <= 2
    assert reconcile("identify", *arguments, "--json").document["error"]["exit_code"] == code


# -- resolve -------------------------------------------------------------------------------------------------


def test_resolve_prints_the_cid_alone(reconcile: CommandLine) -> None:
    reconcile()
    one, two = (reconcile("resolve", f"llm@{version}").out for version in ("1.0.0", "1.1.0"))
    assert one != two
    for ref, wanted in {
        "llm": two,
        "llm@^1": two,
        "llm@~1.0": one,
        "llm@stable": one,
        one.strip(): one,
    }.items():
        done = reconcile("resolve", ref)
        assert (done.code, done.out, done.err) == (0, wanted, ""), ref
    document = reconcile("resolve", "llm@stable", "--json").document
    assert (document["model"], document["version"], document["cid"]) == ("llm", "1.0.0", one.strip())
    assert (document["yanked"], document["license"]) == (None, "Apache-2.0")


def test_resolve_warns_about_what_was_yanked_on_stderr(reconcile: CommandLine) -> None:
    reconcile()
    index = reconcile.root / "releases/index.yaml"
    index.write_text(
        index.read_text().replace("path: weights/llm/1.1.0", 'yanked: "bad"\n        path: weights/llm/1.1.0')
    )
    done = reconcile("resolve", "llm@1.1.0")
    assert done.code == 0
    assert re.fullmatch(rf"{CID}\n", done.out)
    assert done.err == "warning: llm@1.1.0 is yanked: bad\n"
    assert reconcile("resolve", "llm", "--json").document["version"] == "1.0.0"


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("lm", "unknown model 'lm'", "did you mean 'llm'?"),
        ("llm@9", "no version", "it has 1.1.0, 1.0.0"),
        ("llm@stabel", "no channel 'stabel'", "did you mean 'stable'?"),
        ("llm@1.0.0", "has no CID yet", "run reconcile"),
        ("", "is not a reference", "a reference is"),
        ("llm@", "has no version", "a reference is"),
        ("llm@\x1b[31m", "\\x1b", ""),
    ],
)
def test_resolve_names_what_it_cannot_find(reconcile: CommandLine, ref: str, message: str, hint: str) -> None:
    done = reconcile("resolve", ref)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert hint in done.err
    assert "\x1b" not in done.err


def test_resolve_works_in_a_checkout_that_cannot_be_written_to(
    reconcile: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconcile()
    shutil.rmtree(reconcile.root / ".reconcile")
    reconcile.write(".reconcile", "in the way")
    assert reconcile("resolve", "llm").code == 0


# -- verify --------------------------------------------------------------------------------------------------


def test_verify_reads_the_directory_of_a_version(reconcile: CommandLine) -> None:
    reconcile()
    done = reconcile("verify", "llm@1.0.0", "--json")
    assert (done.code, done.document["source"]) == (0, "weights/llm/1.0.0")
    by_directory = reconcile("verify", "weights/llm/1.0.0")
    assert (by_directory.code, by_directory.out[:14]) == (0, "ok: llm@1.0.0 ")


def test_verify_reads_the_targets_where_the_directory_is_not_here(reconcile: CommandLine) -> None:
    reconcile()
    shutil.rmtree(reconcile.root / "weights")
    done = reconcile("verify", "llm@1.0.0", "--json")
    assert (done.code, done.document["source"]) == (0, "store")
    for car in reconcile.cars():
        harm(car, car.stat().st_size - 3, b"\0")
    done = reconcile("verify", "llm@1.0.0")
    assert (done.code, done.out) == (1, "")
    assert "the source does not have block" in done.err


def test_verify_tells_changed_bytes(reconcile: CommandLine) -> None:
    reconcile()
    reconcile.write("weights/llm/1.0.0/config.json", '{"changed": true}')
    for what in ("llm@1.0.0", "weights/llm/1.0.0"):
        done = reconcile("verify", what)
        assert (done.code, done.out) == (1, ""), what
        assert "weights/llm/1.0.0 no longer has the published CID" in done.err


def test_verify_finds_the_version_of_a_directory_that_came_from_elsewhere(
    reconcile: CommandLine, tmp_path: Path
) -> None:
    reconcile()
    root = reconcile("resolve", "llm@1.0.0").out.strip()
    (car,) = (car for car in reconcile.cars() if root in car.name)
    with open_car(car, QUIET) as dag:
        unpack(dag, tmp_path / "fetched")
    done = reconcile("verify", tmp_path / "fetched")
    assert (done.code, done.out) == (0, f"ok: llm@1.0.0 {root}\n")
    (tmp_path / "fetched/extra").write_text("")
    done = reconcile("verify", tmp_path / "fetched")
    assert done.code == 1
    assert done.out == "extra    extra\n"
    assert done.err.endswith("is not llm@1.0.0: 1 file differs\n")


# -- export --------------------------------------------------------------------------------------------------


def test_export_writes_the_car_that_the_store_has(reconcile: CommandLine) -> None:
    reconcile()
    done = reconcile("export", "llm@1.0.0", "llm.car")
    root = done.out.strip()
    assert re.fullmatch(CID, root)
    car = (reconcile.root / "llm.car").read_bytes()
    assert car == (reconcile.root / f".reconcile/store/cars/{root}.car").read_bytes()
    document = reconcile("export", "llm@1.0.0", "again.car", "--json").document
    assert (document["cid"], document["size"]) == (root, len(car))


def test_export_overwrites_nothing_and_leaves_nothing_half(reconcile: CommandLine) -> None:
    reconcile()
    reconcile.write("llm.car", "mine")
    before = reconcile.files()
    done = reconcile("export", "llm", "llm.car")
    assert (done.code, done.out) == (2, "")
    assert "already exists" in done.err
    assert reconcile.files() == before
    shutil.rmtree(reconcile.root / "weights")
    for car in reconcile.cars():
        harm(car, car.stat().st_size - 3, b"\0")
    before = reconcile.files()
    done = reconcile("export", "llm", "new.car")
    assert done.code == 1
    assert reconcile.files() == before


def test_export_into_a_missing_directory_fails(reconcile: CommandLine) -> None:
    reconcile()
    done = reconcile("export", "llm", "nowhere/llm.car")
    assert done.code in (1, 2)
    assert "nowhere" in done.err
    assert not (reconcile.root / "nowhere").exists()


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


# -- CIDs in every spelling, with and without a path ---------------------------------------------------------


def spellings(root: str) -> list[str]:
    upper = f"B{root[1:].upper()}"
    return [
        root,
        upper,
        f"ipfs://{root}",
        f"/ipfs/{root}",
        f"https://gateway.example/ipfs/{root}",
        f"https://{root}.ipfs.dweb.link",
        f"{root}/",
    ]


def test_every_command_takes_a_cid_in_every_spelling(reconcile: CommandLine) -> None:
    reconcile()
    root = reconcile("resolve", "llm@1.0.0").out.strip()
    for number, text in enumerate(spellings(root)):
        assert reconcile("resolve", text).out.strip() == root
        assert reconcile("resolve", "--reverse", text).out == "llm@1.0.0\n"
        assert reconcile("verify", text).out == f"ok: llm@1.0.0 {root}\n"
        assert reconcile("export", text, f"{number}.car").out.strip() == root
        assert reconcile("pieces", text).out == reconcile("pieces", "llm@1.0.0").out
        assert reconcile("lint", text).code == 0


@pytest.mark.parametrize("here", [True, False], ids=["from the directory", "from a target"])
def test_a_path_below_a_cid_is_that_part_alone(reconcile: CommandLine, here: bool) -> None:
    reconcile()
    root = reconcile("resolve", "llm@1.0.0").out.strip()
    file = next(path for path in (reconcile.root / "weights/llm/1.0.0").iterdir() if path.is_file())
    content = file.read_bytes()
    cid = reconcile("identify", file, "--bare").out.strip()
    if not here:
        shutil.rmtree(reconcile.root / "weights")
    for number, text in enumerate((f"{root}/{file.name}", f"ipfs://{root}/{file.name}")):
        done = reconcile("export", text, f"{number}.car")
        assert (done.code, done.out.strip()) == (0, cid)
        assert content in (reconcile.root / f"{number}.car").read_bytes()
        of_car = reconcile("pieces", f"{number}.car").out
        assert reconcile("pieces", text).out.split()[:2] == of_car.split()[:2]
        assert reconcile("verify", text).out == f"ok: {cid}\n"
        assert reconcile("verify", text, "--json").document["cid"] == cid
        assert reconcile("resolve", "--reverse", text).out == "llm@1.0.0\n"
    for command in ("verify", "pieces", "lint"):
        done = reconcile(command, f"{root}/no such file")
        assert (done.code, "has no 'no such file'" in done.err) == (2, True)
