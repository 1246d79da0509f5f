"""A CAR that is hashed while it is sent: its bytes, and the pieces of its shards."""

from __future__ import annotations

import pytest

from reconciler.content import car
from reconciler.content.car import RootNaming, Sharding
from reconciler.content.pieces import HashedCar, shard_pieces
from tests.support.shapes import SHAPES, Failing, large_file


@pytest.mark.parametrize("naming", RootNaming)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("limit", [53_000, 60_000, 1 << 27])
def test_one_pass_gives_the_car_and_its_pieces(shape: str, naming: RootNaming, limit: int) -> None:
    dag = SHAPES[shape]("hashed")
    sharding = Sharding(limit, naming)
    stream = HashedCar(dag, sharding)
    assert b"".join(stream) == b"".join(car.stream(dag))
    assert stream.pieces == shard_pieces(dag, sharding)


def test_each_block_is_read_once() -> None:
    dag = large_file("read once")
    sharding = Sharding(60_000, RootNaming.LAST)
    stream = HashedCar(Failing(dag, len(dag.layout)), sharding)
    assert sum(map(len, stream)) == dag.layout.car_size
    assert len(stream.pieces.shards) == 3
