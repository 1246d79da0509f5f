"""Fetching: complete or absent, from any source that has the blocks, and no block twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from reconciler.consume import fetch as fetching
from reconciler.consume.content_cache import ContentCache
from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.gateway_source import GatewaySource
from reconciler.consume.local_sources import NamedSource
from reconciler.consume.sources import Source
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import Dag
from reconciler.download import scheduler
from reconciler.download.pace import START_FAR
from reconciler.errors import BlockUnavailableError, LockedError, UsageError
from reconciler.progress import QUIET
from reconciler.targets.healing import DagBlocks
from tests.consume.conftest import content, files
from tests.support.dags import MemoryDag
from tests.support.scripted_gateway import Answer, Form, honest, scripted_gateway, send
from tests.support.shapes import Builder, Without


def memory(dag: Dag, name: str = "memory") -> NamedSource:
    return NamedSource(name, DagBlocks(dag))


def run(dag: Dag, destination: Path, *sources: Source, **options: object) -> Fetched:
    return fetch(dag.layout.root, destination, sources, QUIET, name="it", **options)  # type: ignore[arg-type]


def leaves(dag: Dag) -> list[Cid]:
    return [block.cid for block in dag.layout if block.cid.codec == RAW and block.size]


@pytest.mark.parametrize("forms", [("file", "car"), ("file",), ("car",), ()])
def test_a_directory_comes_from_a_gateway(
    dag: MemoryDag, tmp_path: Path, patient: Callable[[str], GatewaySource], forms: tuple[Form, ...]
) -> None:
    """As ranges of files if the gateway supports them, otherwise as CARs, otherwise block by block."""
    with scripted_gateway(dag, forms=forms) as gateway:
        done = run(dag, tmp_path / "d", patient(gateway.url))
    assert files(tmp_path / "d") == content(dag)
    assert (done.files, done.size, done.resumed, done.cached, done.already) == (5, 71680 + 6144 + 9, 0, 0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    cars = sum("format=car" in target for target in gateway.asked)
    plain = sum("format" not in target for target in gateway.asked)
    if not forms:
        assert 1 <= cars <= START_FAR, "an unsupported form is requested only by the first requests"
        assert 1 <= plain <= START_FAR
    elif "file" in forms:
        assert cars == 0 < plain
    else:
        assert 1 <= plain <= START_FAR
        assert cars


def test_a_single_file_and_a_single_leaf(tmp_path: Path) -> None:
    build = Builder("one")
    for number, count in enumerate((9, 1)):
        one = build.dag(build.file("one", count, 100))
        run(one, tmp_path / str(number), memory(one))
        assert (tmp_path / str(number)).read_bytes() == content(one)[""]


def test_a_complete_destination_is_recognized_by_its_bytes(dag: MemoryDag, tmp_path: Path) -> None:
    run(dag, tmp_path / "d", memory(dag))
    dag.reads = 0
    assert run(dag, tmp_path / "d", memory(dag)).already
    assert dag.reads == len(dag.layout) - len(leaves(dag)) - 1, "only the tree was read"
    (tmp_path / "d/sub/small").write_bytes(b"other    ")
    with pytest.raises(UsageError, match="is not empty"):
        run(dag, tmp_path / "d", memory(dag))
    assert (tmp_path / "d/sub/small").read_bytes() == b"other    "


def test_an_extra_file_in_the_destination_is_an_error(dag: MemoryDag, tmp_path: Path) -> None:
    run(dag, tmp_path / "d", memory(dag))
    (tmp_path / "d/extra").touch()
    with pytest.raises(UsageError, match="is not empty"):
        run(dag, tmp_path / "d", memory(dag))


def test_an_interrupted_fetch_is_resumed(dag: MemoryDag, tmp_path: Path) -> None:
    """Verified blocks are not fetched again, and the destination is never incomplete."""
    gone = leaves(dag)[40:70]
    half = Without(dag, [dag.layout.find(cid) or 0 for cid in gone])
    lost = r"does not have block .* \(file '(model\.bin' at byte|sub/small'|twice\.bin')"  # depends on timing
    with pytest.raises(BlockUnavailableError, match=lost):
        run(dag, tmp_path / "d", memory(half))
    assert not (tmp_path / "d").exists()
    dag.reads = 0
    done = run(dag, tmp_path / "d", memory(dag))
    assert files(tmp_path / "d") == content(dag)
    assert 0 < done.resumed <= done.size - 30 * 1024
    tree = sum(block.size for block in dag.layout if block.cid.codec != RAW)
    assert done.sources[0].bytes <= tree + done.size - done.resumed
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_damaged_staged_blocks_are_fetched_again(dag: MemoryDag, tmp_path: Path) -> None:
    half = Without(dag, [dag.layout.find(leaves(dag)[-1]) or 0])
    with pytest.raises(BlockUnavailableError):
        run(dag, tmp_path / "d", memory(half))
    staged = next(tmp_path.glob(".d.fetch-*/content/model.bin"))
    with staged.open("r+b") as file:
        file.seek(5000)
        file.write(b"rot")
    (staged.parent / "stray").write_text("not of this version")
    done = run(dag, tmp_path / "d", memory(dag))
    assert files(tmp_path / "d") == content(dag)
    assert done.resumed <= done.size - 1024


def test_two_sources_that_lack_different_blocks_complete_each_other(dag: MemoryDag, tmp_path: Path) -> None:
    every = [dag.layout.find(cid) or 0 for cid in leaves(dag)]
    done = run(
        dag,
        tmp_path / "d",
        memory(Without(dag, every[::2]), "odd"),
        memory(Without(dag, every[1::2]), "even"),
    )
    assert files(tmp_path / "d") == content(dag)
    assert [source.dropped for source in done.sources] == ["", ""]


@pytest.mark.parametrize("form", ["car", "file"])
def test_a_stream_continues_the_job_of_another_source(
    dag: MemoryDag, tmp_path: Path, patient: Callable[[str], GatewaySource], form: Form
) -> None:
    """The first source lacks a few leaves and cannot stream; the second is used for those."""
    lost = [dag.layout.find(cid) or 0 for cid in leaves(dag)[9:60:10]]
    first_is_done = threading.Event()

    class First(NamedSource):
        def read_block(self, cid: Cid, size: int | None) -> bytes:
            if dag.layout.find(cid) in lost:
                first_is_done.set()
            return super().read_block(cid, size)

    def late(connection: BinaryIO, answer: Answer) -> None:
        first_is_done.wait(60)
        honest(connection, answer)

    with scripted_gateway(dag, late, spoils=lambda answer: answer.form != "block", forms=(form,)) as gateway:
        done = run(dag, tmp_path / "d", First("first", DagBlocks(Without(dag, lost))), patient(gateway.url))
    assert files(tmp_path / "d") == content(dag)
    assert not any(source.dropped or source.bad for source in done.sources)


def test_two_sources_on_one_job_begin_at_opposite_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of a job that an idle source shares with a slow one are not fetched twice."""
    monkeypatch.setattr(scheduler, "_PATIENCE", 0.1)
    build = Builder("ends")
    dag = build.dag(build.directory("", [build.file(f"f{n:02}", 1, 50) for n in range(15)]))

    class Slow(NamedSource):
        def read_block(self, cid: Cid, size: int | None) -> bytes:
            time.sleep(0.05 if cid.codec == RAW else 0)
            return super().read_block(cid, size)

    done = run(dag, tmp_path / "d", *(Slow(name, DagBlocks(dag)) for name in ("one", "two")))
    assert files(tmp_path / "d") == content(dag)
    assert all(source.blocks for source in done.sources)
    assert dag.reads <= len(dag.layout) + 2


def test_a_lying_source_is_dropped_after_two_bad_blocks_and_named(
    dag: MemoryDag, tmp_path: Path, patient: Callable[[str], GatewaySource]
) -> None:
    def lie(connection: object, answer: Answer) -> None:
        send(connection, bytes(len(answer.body)), kind=answer.kind)  # type: ignore[arg-type]

    is_leaf = lambda answer: answer.cid.codec == RAW or answer.form == "car"  # noqa: E731
    with scripted_gateway(dag, lie, spoils=is_leaf) as liar, scripted_gateway(dag) as good:
        done = run(dag, tmp_path / "d", patient(liar.url), patient(good.url))
    assert files(tmp_path / "d") == content(dag)
    first, second = done.sources
    assert (
        2 <= first.bad <= 2 * START_FAR
    )  # requests in progress at the first bad CAR, and at the first block
    assert (second.bad, second.dropped) == (0, "")
    assert first.dropped.startswith(f"{liar.url}: sent ")


def test_the_error_lists_the_failure_of_every_source(
    dag: MemoryDag, tmp_path: Path, patient: Callable[[str], GatewaySource]
) -> None:
    def fail(connection: BinaryIO, _: Answer) -> None:
        send(connection, b"", status="500 Oops")

    with (
        scripted_gateway(dag, fail) as broken,
        pytest.raises(BlockUnavailableError, match="none of 2 sources delivered block") as caught,
    ):
        run(dag, tmp_path / "d", patient(broken.url), patient("http://127.0.0.1:1"))
    assert caught.value.hint is not None
    assert f"{broken.url}: failed (HTTP 500)" in caught.value.hint
    assert "http://127.0.0.1:1: cannot be reached" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_only_selected_files_are_fetched(dag: MemoryDag, tmp_path: Path) -> None:
    run(dag, tmp_path / "d", memory(dag), include=("*.bin",), exclude=("sub/*",))
    assert set(files(tmp_path / "d")) == {"model.bin", "twice.bin"}
    run(dag, tmp_path / "e", memory(dag), include=("sub/small",))
    assert files(tmp_path / "e") == {"sub/small": content(dag)["sub/small"]}
    with pytest.raises(UsageError, match="leave no file to fetch"):
        run(dag, tmp_path / "f", memory(dag), include=("*.gguf",))


def test_cached_files_are_used_unless_they_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_CACHED_FROM", 100)
    build = Builder("versions")
    shared = [build.file(f"shared-{number}", 20, 500) for number in range(9)]
    first = build.dag(build.directory("", [*shared, build.file("own", 20, 500)]))
    second = build.dag(build.directory("", [*shared, build.file("new", 20, 500)]))
    cache = ContentCache(tmp_path / "cache")
    run(first, tmp_path / "first", memory(first), caches=[cache])
    done = run(second, tmp_path / "second", memory(second), caches=[cache])
    assert (done.cached, done.size) == (90_000, 100_000)
    assert done.sources[0].bytes <= 0.25 * done.size  # inner nodes are large beside leaves of 500 bytes
    assert files(tmp_path / "second") == content(second)
    _, rotten = next(iter(cache))
    rotten.chmod(0o644)
    rotten.write_bytes(b"x" * rotten.stat().st_size)
    third = build.dag(build.directory("", [*shared, build.file("third", 20, 500)]))
    done = run(third, tmp_path / "third", memory(third), caches=[cache])
    assert done.cached == 80_000
    assert files(tmp_path / "third") == content(third)
    theirs = ContentCache(tmp_path / "cache", writable=False)
    before = files(tmp_path / "cache")
    run(first, tmp_path / "again", memory(first), caches=[ContentCache(tmp_path / "mine"), theirs])
    assert files(tmp_path / "again") == content(first)
    assert files(tmp_path / "cache") == before


def test_concurrent_fetches_to_one_destination_are_locked_out(dag: MemoryDag, tmp_path: Path) -> None:
    class Nosy(NamedSource):
        def read_block(self, cid: Cid, size: int | None) -> bytes:
            if cid.codec == RAW and size:
                with pytest.raises(LockedError, match="another process is fetching"):
                    run(dag, tmp_path / "d", memory(dag))
            return super().read_block(cid, size)

    run(dag, tmp_path / "d", Nosy("nosy", DagBlocks(dag)))
    assert files(tmp_path / "d") == content(dag)


def test_a_tree_that_declares_a_wrong_leaf_size_is_an_error(tmp_path: Path) -> None:
    """A correct block whose length differs from the one in the tree: the DAG itself is invalid."""
    from reconciler.content import dagpb, unixfs
    from reconciler.content.cid import DAG_PB, hash_block
    from reconciler.errors import DataError

    leaf_a, leaf_b = b"a" * 10, b"b" * 10
    links = [dagpb.PbLink(b"", hash_block(RAW, leaf), 10) for leaf in (leaf_a, leaf_b)]
    block = dagpb.encode(links, unixfs.file([10, 9]))
    root = hash_block(DAG_PB, block)
    blocks = {root: block, hash_block(RAW, leaf_a): leaf_a, hash_block(RAW, leaf_b): leaf_b}

    class Source(NamedSource):
        def __init__(self) -> None:
            self.name, self.width = "it", 1

        def read_block(self, cid: Cid, size: int | None) -> bytes:
            return blocks[cid]

        def close(self) -> None:
            pass

    with pytest.raises(DataError, match="10 bytes, but its parent node declares 9"):
        fetch(root, tmp_path / "f", [Source()], QUIET, name="it")
    assert not (tmp_path / "f").exists()
