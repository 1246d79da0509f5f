from __future__ import annotations

import os
import threading

import pytest

from reconciler.content.car_dag import open_car
from reconciler.content.cid import DAG_PB, RAW, hash_block
from reconciler.content.profile import CHUNK_SIZE
from reconciler.errors import BlockUnavailableError, DataError
from reconciler.progress import QUIET, Quiet
from tests.support.dags import Blocks, car_bytes, write_car

SOURCE = {
    "config.json": b"{}",
    "weights": {"a.bin": b"a" * (3 * CHUNK_SIZE + 7), "copy.bin": b"a" * CHUNK_SIZE},
}


class Notes(Quiet):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def packed():
    blocks = Blocks()
    return blocks.pack(SOURCE).cid, blocks.blocks


def test_a_car_in_any_order_is_a_dag_in_car_order(tmp_path):
    root = write_car(tmp_path / "any.car", SOURCE)

    with open_car(tmp_path / "any.car", QUIET) as dag:
        assert dag.layout.root == root
        assert dag.layout[0].cid == root
        assert dag.layout.car_size == (tmp_path / "any.car").stat().st_size
        for position, block in enumerate(dag.layout):
            assert block.cid.matches(dag.read(position))


def test_extra_and_repeated_blocks_are_tolerated_and_reported(tmp_path, packed):
    root, blocks = packed
    extra = b"nobody needs me"
    car = car_bytes(root, [*blocks.items(), *blocks.items(), (hash_block(RAW, extra), extra)])
    (tmp_path / "x.car").write_bytes(car)
    progress = Notes()

    with open_car(tmp_path / "x.car", progress) as dag:
        assert dag.extra_blocks == 1
        assert len(dag.layout) == len(blocks)
    assert progress.notes == ["x.car contains 1 block not below its root"]


def test_every_missing_block_is_an_error(tmp_path, packed):
    root, blocks = packed
    for missing in blocks:
        (tmp_path / "m.car").write_bytes(
            car_bytes(root, [item for item in blocks.items() if item[0] != missing])
        )
        with pytest.raises(BlockUnavailableError, match=str(missing)):
            open_car(tmp_path / "m.car", QUIET)


def test_a_missing_leaf_is_named_by_file_and_byte(tmp_path, packed):
    root, blocks = packed
    del blocks[hash_block(RAW, b"a" * 7)]
    (tmp_path / "m.car").write_bytes(car_bytes(root, blocks.items()))

    with pytest.raises(BlockUnavailableError, match=rf"'weights/a\.bin' at byte {3 * CHUNK_SIZE}"):
        open_car(tmp_path / "m.car", QUIET)


def test_a_leaf_of_another_size_than_its_parent_declares_is_refused(tmp_path):
    forged = Blocks()
    tree = forged.pack(b"b" * (CHUNK_SIZE + 1))
    from reconciler.content import dagpb, unixfs

    node = dagpb.decode(forged.blocks.pop(tree.cid))
    lying = dagpb.encode(node.links, unixfs.file([CHUNK_SIZE, 2]))
    root = hash_block(DAG_PB, lying)
    (tmp_path / "l.car").write_bytes(car_bytes(root, [(root, lying), *forged.blocks.items()]))

    with pytest.raises(DataError, match="has 1 bytes; its parent declares 2"):
        open_car(tmp_path / "l.car", QUIET)


def test_a_car_of_one_raw_block_is_a_dag(tmp_path):
    write_car(tmp_path / "raw.car", b"hello")

    with open_car(tmp_path / "raw.car", QUIET) as dag:
        assert [dag.read(0), len(dag.layout)] == [b"hello", 1]


def test_a_file_changed_after_opening_is_an_error_when_read(tmp_path, packed):
    root, blocks = packed
    path = tmp_path / "c.car"
    path.write_bytes(car_bytes(root, blocks.items()))

    with open_car(path, QUIET) as dag:
        data = bytearray(path.read_bytes())
        place = data.index(b"{}")
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"[]")
        position = dag.layout.find(hash_block(RAW, b"{}"))
        with pytest.raises(BlockUnavailableError, match=r"config\.json"):
            dag.read(position)
        os.truncate(path, 100)
        with pytest.raises(BlockUnavailableError):
            dag.read(len(dag.layout) - 1)


def test_an_opened_car_is_read_even_when_its_path_was_replaced(tmp_path, packed):
    root, blocks = packed
    path = tmp_path / "r.car"
    path.write_bytes(car_bytes(root, blocks.items()))

    with open_car(path, QUIET) as dag:
        path.unlink()
        assert all(block.cid.matches(dag.read(position)) for position, block in enumerate(dag.layout))


def test_reads_from_several_threads_are_independent(tmp_path):
    write_car(tmp_path / "t.car", SOURCE)
    wrong = []
    with open_car(tmp_path / "t.car", QUIET) as dag:

        def read_all():
            for _ in range(5):
                wrong.extend(p for p, block in enumerate(dag.layout) if not block.cid.matches(dag.read(p)))

        threads = [threading.Thread(target=read_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_closed_dag_gives_no_bytes(tmp_path):
    write_car(tmp_path / "t.car", SOURCE)
    dag = open_car(tmp_path / "t.car", QUIET)
    dag.close()
    dag.close()

    with pytest.raises(BlockUnavailableError):
        dag.read(0)


def test_no_file_a_directory_and_a_pipe_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("none", "cannot open"),
        (".", "not a regular file"),
        ("pipe", "not a regular file"),
    ):
        with pytest.raises(DataError, match=reason):
            open_car(tmp_path / name, QUIET)


def test_a_failed_open_leaves_no_file_open(tmp_path):
    (tmp_path / "bad.car").write_bytes(b"not a car")
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(DataError):
            open_car(tmp_path / "bad.car", QUIET)

    assert len(os.listdir("/dev/fd")) == before


def test_a_car_without_its_root_block_is_refused(tmp_path):
    root = Blocks().pack({"a": b"a"}).cid
    (tmp_path / "n.car").write_bytes(car_bytes(root, []))

    with pytest.raises(BlockUnavailableError, match=r"root block \w+ is missing"):
        open_car(tmp_path / "n.car", QUIET)
