from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reconciler.content import car
from reconciler.content.bundle import bare_bundle
from reconciler.content.car import CarCid, parse_car_cid
from reconciler.content.car_dag import open_car
from reconciler.content.car_reader import CarReader
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import HEADER_SIZE, Dag
from reconciler.content.identify import identify
from reconciler.errors import DataError
from reconciler.progress import QUIET
from tests.support.plant import MIB, TREES, noise, plant
from tests.support.shapes import Builder
from tests.support.unpack import unpack

FILES = {
    "a": b"",
    "w.bin": noise(2 * MIB + 9),
    "sub/same.bin": noise(2 * MIB + 9),
    "s/m": b"x",
    "empty": None,
}

relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> Dag:
    return identify(bare_bundle(plant(tmp_path_factory.mktemp("car") / "root", FILES)), cache=None)


@pytest.fixture(scope="module")
def whole(dag: Dag) -> bytes:
    return b"".join(car.stream(dag))


def test_the_size_is_known_before_the_first_byte(dag: Dag, whole: bytes) -> None:
    assert len(whole) == dag.layout.car_size


def test_the_car_holds_the_blocks_in_layout_order(dag: Dag, whole: bytes) -> None:
    reader = CarReader(io.BytesIO(whole))
    assert reader.root == dag.layout.root
    sections = list(reader)
    assert [section.cid for section in sections] == [block.cid for block in dag.layout]
    assert [section.offset for section in sections] == [
        dag.layout.data_start(p) for p in range(len(dag.layout))
    ]


def spans(size: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, size), st.integers(0, size)).map(lambda pair: (min(pair), max(pair)))


@settings(relaxed, max_examples=300)
@given(data=st.data())
def test_any_span_is_that_slice(dag: Dag, whole: bytes, data: st.DataObject) -> None:
    start, stop = data.draw(spans(len(whole)))
    assert b"".join(car.stream(dag, start, stop)) == whole[start:stop]


def test_spans_at_every_edge_are_those_slices(dag: Dag, whole: bytes) -> None:
    layout = dag.layout
    edges = {0, 1, HEADER_SIZE, len(whole)}
    for position in range(len(layout)):
        edges |= {layout.section_start(position), layout.data_start(position), layout.section_end(position)}
    near = sorted({edge + step for edge in edges for step in (-1, 0, 1) if 0 <= edge + step <= len(whole)})
    for start in near:
        for stop in (start, min(start + 1, len(whole)), *(edge for edge in near[::3] if edge >= start)):
            assert b"".join(car.stream(dag, start, stop)) == whole[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, 1 << 40), (1 << 40, None)])
def test_a_span_outside_is_refused_at_once(dag: Dag, start: int, stop: int | None) -> None:
    with pytest.raises(ValueError, match="span"):
        car.stream(dag, start, stop)


class Counting:
    """A Dag that records which blocks were read."""

    def __init__(self, dag: Dag) -> None:
        self.layout = dag.layout
        self.positions: list[int] = []
        self._dag = dag

    def read(self, position: int) -> bytes:
        self.positions.append(position)
        return self._dag.read(position)

    def close(self) -> None:
        pass


def test_a_span_reads_only_the_blocks_it_touches(dag: Dag) -> None:
    counting = Counting(dag)
    middle = len(dag.layout) // 2
    list(car.stream(counting, dag.layout.data_start(middle), dag.layout.section_start(middle + 1)))
    assert counting.positions == [middle]


def pieces(make: Callable[[], Iterator[bytes]]) -> list[int]:
    return [len(piece) for piece in make()]


def test_chunks_are_neither_empty_nor_long_nor_many(dag: Dag) -> None:
    sizes = pieces(lambda: car.stream(dag))
    assert min(sizes) > 0
    assert max(sizes) <= car.CHUNK_SIZE
    assert len(sizes) <= 2 * dag.layout.car_size // car.CHUNK_SIZE + 2


def test_blocks_longer_than_a_chunk_are_split(tmp_path: Path) -> None:
    class Large:
        """A DAG of one block of 2 MiB, as in other profiles."""

        def __init__(self) -> None:
            self.data = noise(2 * MIB)
            self.layout = identify(bare_bundle(plant(tmp_path, {"a": b""}) / "a"), cache=None).layout
            self.layout.add(Cid(RAW, hashlib.sha256(self.data).digest()), len(self.data))

        def read(self, position: int) -> bytes:
            return self.data if position else b""

        def close(self) -> None:
            pass

    assert pieces(lambda: car.stream(Large()))[-2:] == [car.CHUNK_SIZE, car.CHUNK_SIZE]


@settings(relaxed, max_examples=100)
@given(data=st.data())
def test_a_partial_car_has_exactly_the_blocks_wanted(dag: Dag, data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(0, len(dag.layout) - 1), unique=True))
    made = b"".join(car.stream_partial(dag, positions))
    assert len(made) == car.partial_size(dag.layout, positions)
    reader = CarReader(io.BytesIO(made))
    assert reader.root == dag.layout.root
    assert [section.cid for section in reader] == [dag.layout.cid(position) for position in positions]


@settings(relaxed, max_examples=100)
@given(limit=st.integers(MIB + 100, 6 * MIB))
def test_shards_are_cars_of_the_same_root_that_hold_every_block_once(
    dag: Dag, whole: bytes, limit: int
) -> None:
    cut = car.shard_spans(dag.layout, car.Sharding(limit))
    bodies = []
    for shard in cut:
        made = b"".join(car.stream_shard(dag, shard))
        assert len(made) == shard.size <= limit
        assert CarReader(io.BytesIO(made)).root == dag.layout.root
        bodies.append(made[HEADER_SIZE:])
    assert whole[:HEADER_SIZE] + b"".join(bodies) == whole
    for shard, following in pairwise(cut):
        first = dag.layout.section_end(following.first) - dag.layout.section_start(following.first)
        assert shard.size + first > limit  # as few shards as the order of the blocks allows


def _storacha_shards(sections: list[int], limit: int) -> list[list[int]]:
    """Return the sizes of the sections in each shard, by the algorithm of Storacha's ShardingStream."""
    cars: list[list[int]] = []
    current: list[int] = []
    for section in sections:
        if current and sum(current) + section > limit - 18:
            cars.append(current)
            current = []
        current.append(section)
    moved: list[int] = []
    over = 59 + sum(current) - limit
    while sum(moved) < over:
        moved.insert(0, current.pop())
    return [*cars, current, moved] if moved else [*cars, current]


@settings(relaxed, max_examples=200)
@given(data=st.data())
def test_shards_with_the_root_in_the_last_are_those_of_storachas_client(
    dag: Dag, whole: bytes, data: st.DataObject
) -> None:
    layout = dag.layout
    sections = [layout.section_end(n) - layout.section_start(n) for n in range(len(layout))]
    edges = {sum(sections[a:b]) + extra for a in range(3) for b in range(4, 9) for extra in (17, 18, 58, 59)}
    limit = data.draw(st.integers(MIB + 100, 6 * MIB) | st.sampled_from(sorted(edges)))
    assume(limit >= max(sections) + 59)
    cut = car.shard_spans(layout, car.Sharding(limit, car.RootNaming.LAST))
    assert [sections[s.first : s.last] for s in cut] == _storacha_shards(sections, limit)
    made = [b"".join(car.stream_shard(dag, shard)) for shard in cut]
    assert [len(each) for each in made] == [shard.size for shard in cut]
    assert max(map(len, made)) <= limit
    assert all(each.startswith(bytes.fromhex("11a265726f6f7473806776657273696f6e01")) for each in made[:-1])
    assert made[-1][:HEADER_SIZE] == whole[:HEADER_SIZE]
    assert b"".join(each[18:] for each in made[:-1]) + made[-1][HEADER_SIZE:] == whole[HEADER_SIZE:]


def test_a_car_that_fits_is_one_shard(dag: Dag) -> None:
    assert car.shard_spans(dag.layout, car.Sharding(dag.layout.car_size)) == (
        car.ShardSpan(0, len(dag.layout), dag.layout.car_size),
    )


def test_a_limit_below_one_block_is_refused(dag: Dag) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        car.shard_spans(dag.layout, car.Sharding(MIB))


@relaxed
@given(files=TREES)
def test_pack_car_unpack_is_the_identity(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name in ("root", "back"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    packed = identify(bare_bundle(plant(tmp_path / "root", files)), cache=None)
    (tmp_path / "c.car").write_bytes(b"".join(car.stream(packed)))
    with open_car(tmp_path / "c.car", QUIET) as opened:
        assert list(opened.layout) == list(packed.layout)
        assert b"".join(car.stream(opened)) == (tmp_path / "c.car").read_bytes()
        unpack(opened, tmp_path / "back")
    back = {
        str(p.relative_to(tmp_path / "back")): p.read_bytes()
        for p in (tmp_path / "back").rglob("*")
        if p.is_file()
    }
    assert back == files


@pytest.mark.ipfs
def test_kubo_exports_the_same_bytes(
    dag: Dag, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPFS_PATH", str(tmp_path / "repository"))
    monkeypatch.setenv("IPFS_TELEMETRY", "off")
    (tmp_path / "ours.car").write_bytes(whole)
    for command in (
        ["init", "--profile", "test,unixfs-v1-2025"],
        ["dag", "import", str(tmp_path / "ours.car")],
    ):
        subprocess.run(["ipfs", *command], check=True, capture_output=True)
    export = ["ipfs", "dag", "export", "--progress=false", str(dag.layout.root)]
    assert subprocess.run(export, check=True, capture_output=True).stdout == whole


def test_the_cid_of_a_car_reads_back() -> None:
    cid = CarCid(hashlib.sha256(b"a CAR").digest())
    assert str(cid).startswith("bagbaiera")
    assert parse_car_cid(str(cid)) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "bagbaiera",
        "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
        str(CarCid(bytes(32))).upper(),
        str(CarCid(bytes(32)))[:-1],
        str(CarCid(bytes(32))) + "a",
        str(CarCid(bytes(32)))[:-1] + "b",
        "b" * 10_000,
    ],
)
def test_a_malformed_cid_of_a_car_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        parse_car_cid(text)


def test_no_last_shard_is_shorter_than_a_piece() -> None:
    """A leaf of few bytes at the end would be a CAR that no provider accepts."""
    build = Builder("short end")
    dag = build.dag(build.directory("", [build.file("a", 3, 2000), build.file("z", 1, 5)]))
    whole = dag.layout.car_size
    cut = car.shard_spans(dag.layout, car.Sharding(whole - 1))
    assert [span.last for span in cut] == [len(dag.layout) - 2, len(dag.layout)]
    assert cut[-1].size == len(b"".join(car.stream_shard(dag, cut[-1]))) > car.SHORTEST_PIECE
    assert sum(span.size for span in cut) == whole + HEADER_SIZE
