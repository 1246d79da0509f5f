"""`reconcile import`; `serve` itself is tested as a process in tests/gateway."""

from __future__ import annotations

import pytest

from reconciler.content.cid import RAW, hash_block
from tests.support.command_line import CommandLine
from tests.support.dags import Blocks, car_bytes, memory_dag, write_car


def test_a_car_of_another_program_is_kept_in_our_order(empty: CommandLine) -> None:
    """Leaves first, as others write them; the store then holds the canonical CAR."""
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
