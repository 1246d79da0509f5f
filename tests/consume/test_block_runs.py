"""Runs: those of large files, whole directories of small files, and the remaining blocks."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from reconciler.consume.block_runs import BlockRun, make_runs
from reconciler.consume.fetch import fetch
from reconciler.consume.gateway_source import GatewaySource
from reconciler.consume.selection import file_spans, is_empty_leaf, select_files
from reconciler.content.walk import walk
from reconciler.download.work import RunForm
from reconciler.progress import QUIET
from tests.consume.conftest import content, files
from tests.support.dags import MemoryDag, car_bytes, memory_dag
from tests.support.gateway import keep, served
from tests.support.scripted_gateway import Answer, Behaviour, reply, scripted_gateway, send
from tests.support.shapes import Builder


def small(build: Builder, name: str, count: int) -> object:
    return build.directory(name, [build.file(f"{name}-{n:04}", 1 + n % 3, 40) for n in range(count)])


@pytest.fixture
def images() -> MemoryDag:
    """Two directories of small files in one, a large file beside them, and one among small files."""
    build = Builder("images")
    train = build.directory("train", [small(build, "cats", 60), small(build, "dogs", 40)])
    mixed = build.directory("mixed", [build.file("large", 9), *(build.file(f"m{n}", 1) for n in range(20))])
    few = build.directory("few", [build.file(f"few{n}", 1) for n in range(3)])
    return build.dag(
        build.directory("", [train, mixed, few, build.file("model.bin", 100), build.file("e", 1, 0)])
    )


def runs(dag: MemoryDag, *, include: tuple[str, ...] = (), there: float = 0.0) -> list[BlockRun]:
    """Return the runs of `dag` when the share `there` of its leaves is present already."""
    selected = select_files(walk(dag.layout.root, dag.blocks.__getitem__), include)
    every = [position for position in file_spans(selected) if not is_empty_leaf(selected, position)]
    missing = set(every[int(len(every) * there) :])
    found = make_runs(selected, missing)
    assert sorted(position for run in found for position in run.units.units) == sorted(missing), "each once"
    for run in found:
        sizes = [dag.layout.block_size(position) for position in run.units.units]
        assert [run.units.size(at, at + 1) for at in range(len(sizes))] == sizes
    return found


def whole(found: list[BlockRun], dag: MemoryDag) -> list[str]:
    """Return the paths of the directories that are requested as one."""
    paths = {node.cid: node.path for node in walk(dag.layout.root, dag.blocks.__getitem__).nodes}
    return [paths.get(run.file, "") for run in found if run.file and run.units.form is RunForm.WHOLE]


def test_a_directory_of_small_files_is_requested_as_one(images: MemoryDag) -> None:
    found = runs(images)
    assert whole(found, images) == ["train"], "the topmost one"
    assert [len(run.units.units) for run in found if run.units.form is RunForm.RANGE] == [9, 100]
    assert [len(run.units.units) for run in found if run.units.form is RunForm.SINGLE] == [23]


def test_a_part_of_a_run_is_a_range_of_its_file(images: MemoryDag) -> None:
    (run,) = (run for run in runs(images) if len(run.units.units) == 100)
    part = run.expand(images.layout, 40, 43)
    assert (part.file, part.whole, part.is_contiguous) == (run.file, False, True)
    assert part.blocks == tuple(images.layout.cid(position) for position in run.units.units[40:43])
    assert (part.first, part.size) == (run.units.size(0, 40), sum(part.sizes))


def test_excluded_and_present_files_are_not_requested(images: MemoryDag) -> None:
    assert whole(runs(images, include=("train/cats/*",)), images) == ["train/cats"]
    assert whole(runs(images, include=("*1",)), images) == []
    assert whole(runs(images, there=0.5), images) == ["train/dogs"], "some cats are present"


def test_a_root_of_small_files_is_one_run() -> None:
    build = Builder("flat")
    dag = build.dag(build.directory("", [build.file(f"f{n}", 1, 0 if n % 7 == 0 else 30) for n in range(50)]))
    assert whole(runs(dag), dag) == [""]


def test_a_thousand_small_files_need_a_few_requests(tmp_path: Path) -> None:
    """From our own gateway."""
    build = Builder("thousand")
    below = [build.directory(f"d{n}", [build.file(f"{n}-{m}", 1, 40) for m in range(250)]) for n in range(4)]
    dag = build.dag(build.directory("", below))
    keep(tmp_path / "store", dag)
    with served(tmp_path, tmp_path / "store") as gateway:
        fetch(dag.layout.root, tmp_path / "d", [GatewaySource(gateway.url)], QUIET, name="it")
        metrics = gateway.get("/metrics").body.decode()
    assert files(tmp_path / "d") == content(dag)
    assert 'kind="car",status="200"} 1' in metrics
    assert 'kind="raw",status="200"} 5' in metrics, "the nodes of the tree"


def test_without_cars_the_files_are_requested_one_by_one(tmp_path: Path) -> None:
    build = Builder("raw")
    dag = build.dag(build.directory("", [build.file(f"f{n:03}", 1, 30) for n in range(300)]))
    with scripted_gateway(dag, forms=()) as gateway:
        fetch(dag.layout.root, tmp_path / "d", [GatewaySource(gateway.url)], QUIET, name="it")
    assert files(tmp_path / "d") == content(dag)
    assert len(gateway.asked) == 302, "each once, after one CAR that is not supported"


def test_a_truncated_car_is_completed_block_by_block(tmp_path: Path) -> None:
    build = Builder("breaks")
    dag = build.dag(build.directory("", [build.file(f"f{n:03}", 1, 30) for n in range(100)]))

    def half(connection: object, answer: Answer) -> None:
        send(connection, answer.body[: len(answer.body) // 2], kind=answer.kind)  # type: ignore[arg-type]

    with scripted_gateway(dag, half, spoils=lambda answer: answer.form == "car") as gateway:
        done = fetch(dag.layout.root, tmp_path / "d", [GatewaySource(gateway.url)], QUIET, name="it")
    assert files(tmp_path / "d") == content(dag)
    assert done.sources[0].bytes == sum(block.size for block in dag.layout), "the received blocks are kept"
    assert len(gateway.asked) < 95


def wrong(connection: BinaryIO, answer: Answer) -> None:
    reply(connection, answer, answer.body[:-5] + b"xxxxx")


def strangers(connection: BinaryIO, answer: Answer) -> None:
    other = memory_dag({f"{n}": b"%d" % n for n in range(99)})
    reply(connection, answer, car_bytes(other.layout.root, other.blocks.items()))


def page(connection: BinaryIO, answer: Answer) -> None:
    send(connection, b"<!doctype html>", kind="text/html")


def garbage(connection: BinaryIO, answer: Answer) -> None:
    reply(connection, answer, b"\xff" * 1000)


def too_much(connection: BinaryIO, answer: Answer) -> None:
    reply(connection, answer, answer.body + bytes(64 << 20))


@pytest.mark.parametrize("lie", [wrong, strangers, page, garbage, too_much])
def test_a_wrong_car_of_a_directory_changes_nothing(tmp_path: Path, lie: Behaviour) -> None:
    build = Builder("lies")
    dag = build.dag(build.directory("", [build.file(f"f{n:03}", 1, 30) for n in range(40)]))
    with scripted_gateway(dag, lie, spoils=lambda answer: answer.form == "car") as gateway:
        done = fetch(dag.layout.root, tmp_path / "d", [GatewaySource(gateway.url)], QUIET, name="it")
    assert files(tmp_path / "d") == content(dag)
    assert done.sources[0].bytes == sum(block.size for block in dag.layout)
    assert sum("format=car" in target for target in gateway.asked) == 1
