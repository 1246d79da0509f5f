"""`put`, `get` and `import`: artifacts without an index entry; tests/gateway runs `serve` as a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.content.cid import RAW, hash_block
from tests.support.command_line import CommandLine
from tests.support.dags import Blocks, car_bytes, files_under, memory_dag, write_car
from tests.support.kubo_node import kubo_node
from tests.support.store_files import harm

DATASET = {"train.jsonl": b'{"x": 1}\n' * 1000, "more": {"test.jsonl": b'{"x": 2}\n'}, "empty": b""}


@pytest.fixture
def dataset(reconcile: CommandLine) -> Path:
    write(reconcile, "data/mine", DATASET)
    return reconcile.root / "data/mine"


def write(reconcile: CommandLine, name: str, source: object) -> None:
    assert isinstance(source, dict)
    for key, value in source.items():
        if isinstance(value, bytes):
            reconcile.write(f"{name}/{key}", value)
        else:
            write(reconcile, f"{name}/{key}", value)


def test_a_directory_comes_back_as_it_was(reconcile: CommandLine, dataset: Path) -> None:
    done = reconcile("put", "data/mine", "--json")
    assert done.code == 0
    root = done.document["cid"]
    assert root == str(memory_dag(DATASET).layout.root)  # nothing was generated
    assert done.document["label"] == "reconciler/put/mine"
    assert reconcile("put", "data/mine").out == f"{root}\n"
    assert reconcile("get", root, "back").code == 0
    assert files_under(reconcile.root / "back") == DATASET


def test_a_single_file_comes_back_as_a_file(reconcile: CommandLine) -> None:
    reconcile.write("proof.json", b"{}")
    root = reconcile("put", "proof.json", "--label", "task-17-proof").out.strip()
    assert reconcile("get", root, "back.json").code == 0
    assert (reconcile.root / "back.json").read_bytes() == b"{}"
    labels = [json.loads(path.read_text())["labels"] for path in _labels(reconcile)]
    assert labels == [["reconciler/put/task-17-proof"]]


def _labels(reconcile: CommandLine) -> list[Path]:
    return sorted((reconcile.root / ".reconcile/store/labels").glob("*.json"))


def test_a_second_put_sends_nothing(reconcile: CommandLine, dataset: Path) -> None:
    assert reconcile("put", "data/mine", "--json").document["bytes_sent"] > 0
    before = reconcile.files()
    assert reconcile("put", "data/mine", "--json").document["bytes_sent"] == 0
    assert reconcile.files() == before


def test_no_run_takes_it_away_or_calls_it_foreign(reconcile: CommandLine, dataset: Path) -> None:
    root = reconcile("put", "data/mine").out.strip()
    assert reconcile().code == 0
    assert reconcile("--prune", "--allow-removals", "99").code == 0
    assert (reconcile.root / f".reconcile/store/cars/{root}.car").is_file()
    assert reconcile("adopt", "--all", "--json").document["items"] == []
    assert reconcile("--dry-run", "--exit-code").code == 0


def test_a_version_with_the_same_root_keeps_its_own_label_beside(reconcile: CommandLine) -> None:
    assert reconcile("--only", "llm@1.0.0").code == 0
    root = reconcile("resolve", "llm@1.0.0").out.strip()
    assert reconcile("get", root, "copy").code == 0
    assert reconcile("put", "copy").out.strip() == root
    (labels,) = (json.loads(path.read_text())["labels"] for path in _labels(reconcile))
    assert labels == ["reconciler/acme/llm@1.0.0", "reconciler/put/copy"]


def test_an_index_cannot_take_the_label_for_its_own(empty: CommandLine) -> None:
    for word in ("put", "import"):
        empty.write("releases/index.yaml", f"schema: 1\nid: {word}\nmodels: {{}}\n")
        done = empty("plan")
        assert done.code == 2
        assert f"'id' must not be '{word}'" in done.err


def test_damage_is_found_when_it_is_brought_back(reconcile: CommandLine, dataset: Path) -> None:
    root = reconcile("put", "data/mine").out.strip()
    harm(reconcile.root / f".reconcile/store/cars/{root}.car", 1000, b"X")
    done = reconcile("get", root, "back")
    assert done.code == 1
    assert not (reconcile.root / "back").exists()
    assert reconcile("put", "data/mine").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("put", "nothing"), 2, "no such file or directory"),
        (("put", "data/mine", "--label", "a/b"), 2, "invalid label 'a/b'"),
        (("put", "data/mine", "--label", "../x"), 2, "invalid label"),
        (("put", "data/mine", "--target", "moon"), 2, "unknown target 'moon'"),
        (("get", "llm@1.0.0", "back"), 2, "not a CID"),
        (("get", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy", "back"), 1, "no target"),
    ],
)
def test_wrong_usage_is_one_error(
    reconcile: CommandLine, dataset: Path, arguments: tuple[str, ...], code: int, reason: str
) -> None:
    done = reconcile(*arguments)
    assert (done.code, done.out) == (code, "")
    assert reason in done.err
    assert not (reconcile.root / "back").exists()


def test_with_several_targets_one_is_named(reconcile: CommandLine, dataset: Path) -> None:
    targets = {name: {"kind": "store", "path": f".reconcile/{name}"} for name in ("store", "second")}
    reconcile.write("releases/targets.yaml", json.dumps({"targets": targets}))
    done = reconcile("put", "data/mine")
    assert (done.code, "--target: store, second" in done.err) == (2, True)
    root = reconcile("put", "data/mine", "--target", "second").out.strip()
    assert (reconcile.root / f".reconcile/second/cars/{root}.car").is_file()
    assert not (reconcile.root / ".reconcile/store").exists()
    assert reconcile("get", root, "back").code == 0


@pytest.mark.ipfs
def test_kubo_keeps_it_and_a_pin_of_the_index_is_left_alone(
    reconcile: CommandLine, dataset: Path, tmp_path: Path
) -> None:
    with kubo_node(tmp_path / "node") as node:
        targets = {"store": {"kind": "kubo", "api": node.url}}
        reconcile.write("releases/targets.yaml", json.dumps({"targets": targets}))
        root = reconcile("put", "data/mine").out.strip()
        assert node.pins()[root] == "reconciler/put/mine"
        assert reconcile("get", root, "back").code == 0
        assert files_under(reconcile.root / "back") == DATASET
        assert reconcile("--only", "llm@1.0.0").code == 0
        version = reconcile("resolve", "llm@1.0.0").out.strip()
        assert reconcile("get", version, "copy").code == 0
        document = reconcile("put", "copy", "--json").document
        assert (document["cid"], document["label"]) == (version, None)
        assert "already kept as 'reconciler/acme/llm@1.0.0'" in document["detail"]
        assert node.pins()[version] == "reconciler/acme/llm@1.0.0"


def test_a_car_of_another_program_is_kept_in_our_order(empty: CommandLine) -> None:
    """Leaves first, as other programs write CARs; the store still contains the canonical CAR."""
    root = write_car(empty.root / "other.car", {"a": b"first", "b": {"c": b"second"}})
    done = empty("import", "other.car", "--store", "store", "--json")
    assert (done.code, done.document["cid"]) == (0, str(root))
    assert done.document["blocks"] == 4
    assert not done.document["already_there"]
    again = empty("import", "other.car", "--store", "store", "--json").document
    assert again["already_there"]
    exported = memory_dag({"a": b"first", "b": {"c": b"second"}})
    (car,) = (empty.root / "store/cars").glob("*.car")
    assert car.stat().st_size == exported.layout.car_size


def test_an_imported_root_is_no_index_s_to_prune(reconcile: CommandLine) -> None:
    root = write_car(reconcile.root / "other.car", {"a": b"mine"})
    assert reconcile("import", "other.car").code == 0
    assert reconcile("--prune", "--allow-removals", "9").code == 0
    assert (reconcile.root / f".reconcile/store/cars/{root}.car").is_file()


def _cars() -> dict[str, bytes]:
    blocks = Blocks()
    root = blocks.pack({"a": b"first", "b": b"second" * 300_000}).cid
    items = list(blocks.blocks.items())
    whole = car_bytes(root, items)
    leaf = items[0][0]
    return {
        "empty": b"",
        "cut in a block": whole[:-1],
        "cut between blocks": car_bytes(root, items[:-1]),
        "a bit flipped": whole[:-1] + bytes((whole[-1] ^ 1,)),
        "no root block": car_bytes(hash_block(RAW, b"elsewhere"), items),
        "a block under another's CID": car_bytes(root, [*items, (leaf, b"else")]),
        "zeros at the end": whole + bytes(8),
        "two roots": b"\x61"
        + b"\xa2\x65roots\x82"
        + 2 * (b"\xd8\x2a\x58\x25\x00" + bytes(root))
        + b"gversion\x01",
        "a CARv2": b"\x0a\xa1gversion\x02" + bytes(60),
        "a section of 4 GiB": whole + b"\xff\xff\xff\xff\x0f",
        "a varint without end": whole + b"\xff" * 12,
        "a web page": b"<!DOCTYPE html><html></html>",
        "names that leave": car_bytes(*_climbing()),
    }


def _climbing() -> tuple[object, list[tuple[object, bytes]]]:
    from reconciler.content import dagpb, unixfs
    from reconciler.content.cid import DAG_PB

    leaf = hash_block(RAW, b"x")
    block = dagpb.encode([dagpb.PbLink(b"../x", leaf, 1)], unixfs.DIRECTORY)
    return hash_block(DAG_PB, block), [(hash_block(DAG_PB, block), block), (leaf, b"x")]


@pytest.mark.parametrize("name", list(_cars()))
def test_a_car_that_does_not_hold_changes_nothing(empty: CommandLine, name: str) -> None:
    empty.write("bad.car", _cars()[name])
    before = empty.files()
    done = empty("import", "bad.car", "--store", "store")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert empty.files() == before


def test_import_of_a_missing_file_fails(empty: CommandLine) -> None:
    done = empty("import", "nothing.car", "--store", "store")
    assert done.code == 1
    assert done.err.startswith("error: cannot open 'nothing.car'")
    assert not (empty.root / "store").exists()
