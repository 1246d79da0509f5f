"""Records name the pieces of versions on targets that need them; no bytes are read for other versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.content import pieces as content_pieces
from reconciler.content.car import RootNaming, ShardedCar, Sharding
from reconciler.content.dag import Dag
from reconciler.index.records import load_record, records_directory
from reconciler.loop.settings import ProposeMode
from reconciler.progress import Progress
from reconciler.targets.interface import Capabilities, Check, Delivery, Expected, Inventory
from tests.loop.test_propose import in_repository
from tests.support.memory_target import MemoryTarget
from tests.support.releases import Releases, kinds, states, with_memory

SHARDING = Sharding(2_000_000, RootNaming.LAST)
FILES = {"a.bin": b"a" * 1_500_000, "b.bin": bytes(range(256)) * 8000}
RECORD = "releases/records/m/1.0.0.json"


class PieceTarget(MemoryTarget):
    """A memory target with pieces. `seen` are the pieces it received; with `reports` it returns them."""

    def __init__(self, name: str, *, reports: bool = False) -> None:
        super().__init__(name, Capabilities(sharding=SHARDING))
        self.seen: list[ShardedCar | None] = []
        self.reports = reports

    def observe(self, expected: Any, check: Check, mark: str, progress: Progress) -> Inventory:
        self.seen = [each.pieces for each in expected if isinstance(each, Expected)]
        return super().observe(expected, check, mark, progress)

    def publish(self, dag: Dag, label: str, progress: Progress) -> Delivery:
        done = super().publish(dag, label, progress)
        if not self.reports:
            return done
        return Delivery(done.state, done.bytes_sent, pieces=content_pieces.shard_pieces(dag, SHARDING))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sharding]]:
    """The shardings whose pieces were computed, in order."""
    calls: list[Sharding] = []
    real = content_pieces.shard_pieces

    def counted(dag: Dag, sharding: Sharding, *rest: Any) -> ShardedCar:
        calls.append(sharding)
        return real(dag, sharding, *rest)

    monkeypatch.setattr(content_pieces, "shard_pieces", counted)
    return calls


def _releases(root: Path, target: PieceTarget, *others: str) -> Releases:
    releases = with_memory(root, target.name, *others)
    releases.memory[target.name] = target
    releases.add("m@1.0.0", FILES)
    return releases


def _recorded(releases: Releases) -> tuple[ShardedCar, ...]:
    record = load_record(records_directory(releases.index_file), "m", "1.0.0")
    assert record is not None
    return record.pieces


@pytest.mark.parametrize("reports", [True, False])
def test_pieces_are_computed_once_and_recorded_with_the_proposal(
    tmp_path: Path, computed: list[Sharding], reports: bool
) -> None:
    target = PieceTarget("filecoin", reports=reports)
    releases = _releases(tmp_path, target)
    assert {state for *_, state in states(releases.apply())} == {"applied"}
    (pieces,) = _recorded(releases)
    assert pieces.sharding == SHARDING
    assert len(pieces.shards) == 3
    assert all(shard.size == shard.piece.size <= SHARDING.max_bytes for shard in pieces.shards)
    assert kinds(releases.plan()) == []
    assert target.seen == [pieces]
    assert computed == [SHARDING]


def test_without_a_target_that_needs_pieces_none_are_computed(
    tmp_path: Path, computed: list[Sharding]
) -> None:
    releases = with_memory(tmp_path, "a", "b")
    releases.add("m@1.0.0", FILES)
    releases.apply()
    assert "pieces" not in json.loads((tmp_path / RECORD).read_text())
    assert computed == []


def test_a_record_without_pieces_gains_them_when_a_target_needs_them(
    tmp_path: Path, computed: list[Sharding]
) -> None:
    releases = with_memory(tmp_path, "a")
    releases.add("m@1.0.0", FILES)
    releases.apply()
    before = json.loads((tmp_path / RECORD).read_text())
    releases.targets = ("a", "filecoin")
    releases.memory["filecoin"] = PieceTarget("filecoin")
    plan = releases.plan()
    assert kinds(plan) == [("publish", "m@1.0.0", "filecoin"), ("write-record", "m@1.0.0", None)]
    releases.apply()
    after = json.loads((tmp_path / RECORD).read_text())
    assert {key: after[key] for key in before} == before
    assert after.keys() - before.keys() == {"pieces"}
    assert kinds(releases.plan()) == []
    assert computed == [SHARDING]


def test_pieces_that_are_held_and_not_recorded_are_found_out(tmp_path: Path) -> None:
    """This happens when a run is killed between the publish and the record."""
    target = PieceTarget("filecoin")
    releases = _releases(tmp_path, target)
    releases.apply()
    text = json.loads((tmp_path / RECORD).read_text())
    del text["pieces"]
    (tmp_path / RECORD).write_text(json.dumps(text))
    assert kinds(releases.plan()) == [("write-record", "m@1.0.0", None)]
    releases.apply()
    assert len(_recorded(releases)) == 1
    assert kinds(releases.plan()) == []


def test_where_the_bytes_are_not_here_a_missing_piece_list_is_no_change(tmp_path: Path) -> None:
    target = PieceTarget("filecoin")
    releases = _releases(tmp_path, target)
    releases.apply()
    (tmp_path / RECORD).unlink()
    for file in releases.source("m@1.0.0").iterdir():
        file.unlink()
    releases.source("m@1.0.0").rmdir()
    assert kinds(releases.plan()) == []


def test_pieces_other_than_recorded_are_an_error_that_names_both(tmp_path: Path) -> None:
    target = PieceTarget("filecoin", reports=True)
    releases = _releases(tmp_path, target)
    releases.apply()
    shards = _recorded(releases)[0].shards
    wrong = replace(shards[1].piece, root=bytes(32))
    text = (tmp_path / RECORD).read_text()
    (tmp_path / RECORD).write_text(text.replace(str(shards[1].piece), str(wrong)))
    target.held.clear()
    (outcome,) = releases.apply().outcomes
    assert outcome.state == "failed"
    assert f"CAR 2 of 3 is piece {wrong}, not {shards[1].piece}" in outcome.detail


@pytest.mark.parametrize("reports", [True, False])
def test_a_proposal_that_waits_on_its_branch_costs_no_second_computing(
    tmp_path: Path, computed: list[Sharding], reports: bool
) -> None:
    releases = in_repository(tmp_path, tmp_path)
    releases.add("m@1.0.0", FILES)
    releases.memory["a"] = PieceTarget("a", reports=reports)
    releases.apply(propose=ProposeMode.BRANCH)
    assert kinds(releases.plan(propose=ProposeMode.BRANCH)) == []
    assert kinds(releases.plan(propose=ProposeMode.BRANCH)) == []
    assert computed == [SHARDING]
    cached = list((tmp_path / ".reconcile/cache/pieces").iterdir())
    assert len(cached) == 1
    cached[0].write_bytes(cached[0].read_bytes().replace(b"bafkzci", b"bafkzcj"))
    assert kinds(releases.plan(propose=ProposeMode.BRANCH)) == []
    assert computed == [SHARDING, SHARDING]
