"""The service and its client compute the same pieces as we do, at every size and number of CARs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.content import car
from reconciler.content.car import RootNaming, Sharding
from reconciler.content.cid import RAW, hash_block
from reconciler.content.pieces import shard_pieces
from tests.support.dags import Blocks, MemoryDag
from tests.support.shapes import SHAPES, large_file
from tests.support.storacha_service import StorachaService
from tests.targets.storacha.subjects import opened

pytestmark = pytest.mark.storacha


@pytest.fixture(scope="module")
def home(service: StorachaService, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the client, to which the space has been added."""
    made = tmp_path_factory.mktemp("home")
    subprocess.run(
        [service.cli, "space", "add", service.proof],
        env=environ(service, made),
        capture_output=True,
        check=True,
        timeout=120,
    )
    return made


def environ(service: StorachaService, home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home)} | service.environ


def uploaded(service: StorachaService, home: Path, path: Path, *options: str) -> list[dict[str, object]]:
    """Upload the CAR at `path`, and return what the client prints."""
    with path.open("rb") as file:
        done = subprocess.run(
            [service.cli, "up", "--car", "--json", "--verbose", *options],
            env=environ(service, home),
            stdin=file,
            capture_output=True,
            check=True,
            timeout=120,
        )
    return [json.loads(line) for line in done.stdout.splitlines()]


def predicted(dag: MemoryDag, sharding: Sharding) -> list[dict[str, object]]:
    shards = [
        {"piece": {"/": str(each.piece)}, "shard": {"/": str(each.cid)}, "size": each.size}
        for each in shard_pieces(dag, sharding).shards
    ]
    return [*shards, {"root": {"/": str(dag.layout.root)}}]


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(shape, marks=() if shape in ("bundle", "file of 1,025 leaves") else pytest.mark.slow)
        for shape in SHAPES
    ],
)
def test_one_car_is_stored_as_it_is(service: StorachaService, home: Path, tmp_path: Path, shape: str) -> None:
    """The client reads it from its standard input, and the service stores the same bytes."""
    dag = SHAPES[shape]("peer")
    (tmp_path / "one.car").write_bytes(b"".join(car.stream(dag)))
    said = uploaded(service, home, tmp_path / "one.car")
    sharding = Sharding(133_169_152, RootNaming.LAST)
    assert said == predicted(dag, sharding)
    assert service.blob(shard_pieces(dag, sharding).shards[0].cid) == (tmp_path / "one.car").read_bytes()


@pytest.mark.slow
def test_several_cars_are_cut_where_we_cut(service: StorachaService, home: Path, tmp_path: Path) -> None:
    dag = large_file("peer, in several")
    (tmp_path / "one.car").write_bytes(b"".join(car.stream(dag)))
    said = uploaded(service, home, tmp_path / "one.car", "--shard-size", "60000")
    assert len(said) == 4
    assert said == predicted(dag, Sharding(60_000, RootNaming.LAST))


@pytest.mark.parametrize(
    "kept", [0.5, pytest.param(-40, marks=pytest.mark.slow), pytest.param(-1, marks=pytest.mark.slow)]
)
def test_a_car_that_breaks_off_within_a_block_is_not_stored(
    service: StorachaService, home: Path, tmp_path: Path, kept: float
) -> None:
    """A killed run leaves such a CAR to the client, which then lists nothing."""
    dag = large_file(f"peer, broken off at {kept}")
    whole = b"".join(car.stream(dag))
    (tmp_path / "one.car").write_bytes(whole[: int(len(whole) * kept) if kept > 0 else int(kept)])
    with pytest.raises(subprocess.CalledProcessError):
        uploaded(service, home, tmp_path / "one.car")
    with opened(service) as target:
        assert dag.layout.root not in target._reader.uploads()


def leaf(size: int) -> MemoryDag:
    """Return one raw block whose CAR has `size` bytes: 59 of header, 36 of CID, and the length before it."""
    for data in (size - 59 - 36 - length for length in (1, 2, 3, 4)):
        block = (bytes(range(251)) * (data // 251 + 1))[:data]
        dag = MemoryDag(hash_block(RAW, block), {hash_block(RAW, block): block})
        if dag.layout.car_size == size:
            return dag
    raise AssertionError(f"no CAR of {size} bytes")


def file(size: int) -> MemoryDag:
    """Return a file of several leaves whose CAR has `size` bytes."""
    length = size - 4096
    for _ in range(8):
        packer = Blocks()
        root = packer.pack((bytes(range(251)) * (length // 251 + 1))[:length]).cid
        dag = MemoryDag(root, packer.blocks)
        if dag.layout.car_size == size:
            return dag
        length += size - dag.layout.car_size
    raise AssertionError(f"no CAR of {size} bytes")


EDGES = [127 << power for power in range(20)]


@pytest.mark.slow
@pytest.mark.parametrize("size", sorted({edge + by for edge in EDGES for by in (-1, 0, 1)}))
def test_around_every_edge_of_the_padding(
    service: StorachaService, home: Path, tmp_path: Path, size: int
) -> None:
    dag = leaf(size) if size < 1 << 20 else file(size)
    (tmp_path / "one.car").write_bytes(b"".join(car.stream(dag)))
    assert uploaded(service, home, tmp_path / "one.car") == predicted(
        dag, Sharding(133_169_152, RootNaming.LAST)
    )
