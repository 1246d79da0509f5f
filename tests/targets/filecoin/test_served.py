"""Versions as providers serve them: found without a record, read block by block, verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.filecoin.discover import NO_CAR, PieceStarts, read_start
from reconciler.targets.interface import Check, Expected, Pin, State
from tests.support.dags import MemoryDag
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import Builder, bundle, large_file, single_leaf, twins

LABEL = Label("reconciler/acme/model@1.0.0")
LIMIT = 60_000


@pytest.mark.parametrize("make", [large_file, bundle, single_leaf])
def test_a_version_is_read_from_its_pieces_alone(cloud: OnchainStorage, make: object) -> None:
    dag = make("served")  # type: ignore[operator]
    cloud.target(max_bytes=LIMIT).publish(dag, LABEL, QUIET)
    served = cloud.target(max_bytes=LIMIT).dag(dag.layout.root)
    assert list(served.layout) == list(dag.layout)
    step = max(1, len(dag.layout) // 40)
    assert all(served.read(p) == dag.read(p) for p in range(0, len(dag.layout), step))


def test_inner_nodes_take_few_requests(cloud: OnchainStorage) -> None:
    dag = large_file("requests")
    cloud.target(max_bytes=LIMIT, providers=[1]).publish(dag, LABEL, QUIET)
    cloud.providers[1].asked.clear()
    cloud.target(max_bytes=LIMIT).dag(dag.layout.root)
    assert len(cloud.providers[1].asked) <= 3 + 4 + 3, "beginnings, inner nodes, headers"


def test_what_pieces_begin_with_is_read_once_and_cached(cloud: OnchainStorage, tmp_path: Path) -> None:
    dags = [bundle(f"cached {number}") for number in range(3)]
    for dag in dags:
        cloud.target(providers=[1]).publish(dag, LABEL, QUIET)
    target = cloud.target(cache=tmp_path)
    cloud.providers[1].asked.clear()
    roots = {Pin(dag.layout.root, "") for dag in dags}
    assert set(target.observe([], Check.QUICK, LABEL.mark, QUIET).foreign) == roots
    assert len(cloud.providers[1].asked) == 3
    again = cloud.target(cache=tmp_path)
    assert set(again.observe([], Check.QUICK, LABEL.mark, QUIET).foreign) == roots
    assert len(cloud.providers[1].asked) == 3


def test_a_cache_that_was_tampered_with_changes_no_state(cloud: OnchainStorage, tmp_path: Path) -> None:
    dag, other = twins("tampered")
    cloud.target(providers=[1]).publish(dag, LABEL, QUIET)
    cloud.target(cache=tmp_path).observe([], Check.QUICK, LABEL.mark, QUIET)
    (file,) = tmp_path.rglob("starts.json")
    file.write_text(file.read_text().replace(str(dag.layout.root), str(other.layout.root)))
    target = cloud.target(cache=tmp_path)
    seen = target.observe([Expected(other.layout.root, (LABEL,))], Check.QUICK, LABEL.mark, QUIET)
    assert seen.observations[other.layout.root].state is State.ABSENT
    with pytest.raises((BlockUnavailableError, DataError)):
        target.dag(other.layout.root)


def test_another_provider_serves_what_one_lost_or_damaged(cloud: OnchainStorage) -> None:
    dag = large_file("two providers")
    cloud.target(copies=2, max_bytes=LIMIT, providers=[1, 2]).publish(dag, LABEL, QUIET)
    pieces = cloud.providers[1].pieces
    for number, piece in enumerate(list(pieces)):
        if number:
            pieces[piece] = bytes(len(pieces[piece]))
        else:
            del pieces[piece]
    served = cloud.target(max_bytes=LIMIT).dag(dag.layout.root)
    assert all(served.read(p) == dag.read(p) for p in range(0, len(dag.layout), 50))


def test_damage_everywhere_is_unavailable_and_silence_is_an_error_of_the_peer(cloud: OnchainStorage) -> None:
    dag: MemoryDag = bundle("damage")
    cloud.target(providers=[1]).publish(dag, LABEL, QUIET)
    served = cloud.target().dag(dag.layout.root)
    (piece,) = cloud.providers[1].pieces
    data = cloud.providers[1].pieces[piece]
    leaf = next(position for position in range(len(dag.layout)) if dag.layout.is_leaf(position))
    cloud.providers[1].pieces[piece] = data.replace(dag.read(leaf), bytes(dag.layout.block_size(leaf)))
    with pytest.raises(BlockUnavailableError, match=r"no provider serves piece .* undamaged"):
        served.read(leaf)
    cloud.providers[1].faults["down"] = True
    with pytest.raises(PeerError, match="provider 1"):
        served.read(leaf)


@pytest.mark.parametrize("damage", ["lost", "first bytes changed"])
def test_a_piece_that_is_gone_takes_only_its_own_blocks_with_it(cloud: OnchainStorage, damage: str) -> None:
    build = Builder(damage)
    dag = build.dag(build.file("weights", 6, 2500))
    target = cloud.target(providers=[1], max_bytes=3000)
    delivery = target.publish(dag, LABEL, QUIET)
    assert delivery.pieces is not None
    pieces, gone = cloud.providers[1].pieces, str(delivery.pieces.shards[2].piece)
    data = pieces.pop(gone)
    if damage != "lost":
        pieces[gone] = bytes(len(data))
    served = target.dag(dag.layout.root)
    assert served.layout.root == dag.layout.root
    unavailable = 0
    for position in range(len(dag.layout)):
        try:
            assert served.read(position) == dag.read(position)
        except BlockUnavailableError as error:
            unavailable += 1
            assert gone in error.message
    assert unavailable == 1


def test_pieces_of_other_programs_are_no_cars_of_ours() -> None:
    assert read_start(b"") == NO_CAR
    assert read_start(bytes(200)) == NO_CAR
    assert PieceStarts(None).get([], lambda *_: b"") == {}
