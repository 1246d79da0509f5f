"""Versions of a repository on Filecoin Onchain Cloud: published, recorded, lost, repaired and read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.content.pieces import shard_pieces
from reconciler.deals.onchain.interface import DataSetState
from reconciler.loop.changes import OutcomeState, Repair
from reconciler.progress import QUIET, Progress
from reconciler.targets.interface import Check, Expected, State
from tests.support.onchain.storage import OnchainStorage
from tests.support.releases import Releases, Running, kinds, states

MIB = 1 << 20
LIMIT = MIB + 5000  # bytes of a CAR
FILES = {
    "model.safetensors": bytes(MIB) + b"\1" * MIB + b"\2" * MIB + b"\3" * MIB,
    "config.json": b"{}" * 200,
}


class CloudReleases(Releases):
    """A repository with one target, opened anew for each run, that keeps two copies in CARs of one leaf."""

    def __init__(self, root: Path, cloud: OnchainStorage) -> None:
        super().__init__(root, "filecoin")
        self._cloud = cloud

    @contextmanager
    def running(self, progress: Progress = QUIET, **settings: Any) -> Iterator[Running]:
        self.memory = {"filecoin": self._cloud.target(copies=2, max_bytes=LIMIT)}  # type: ignore[dict-item]
        with super().running(progress, **settings) as run:
            yield run


@pytest.fixture
def releases(cloud: OnchainStorage, tmp_path: Path) -> CloudReleases:
    made = CloudReleases(tmp_path, cloud)
    made.add("llm@1.0.0", FILES)
    return made


def test_a_lost_provider_is_named_repaired_and_the_version_read_from_providers_alone(
    releases: CloudReleases, cloud: OnchainStorage
) -> None:
    report = releases.apply()
    assert ("publish", "llm@1.0.0", "filecoin", OutcomeState.APPLIED) in states(report)
    assert kinds(releases.plan()) == []
    with releases.running() as run:
        (record,) = run.workspace.records.values()
    (car,) = record.pieces
    assert len(car.shards) == 4
    assert cloud.stored == {str(shard.piece): 1 for shard in car.shards}

    root = releases.cid("llm@1.0.0")
    for file in releases.source("llm@1.0.0").iterdir():
        file.unlink()
    releases.source("llm@1.0.0").rmdir()
    assert kinds(releases.plan()) == []

    cloud.prove()
    state = cloud.payer.state(1)
    assert isinstance(state, DataSetState)
    lost = state.account.provider_id
    cloud.payer.end_at_once(lost, 1)
    cloud.providers[lost].faults["down"] = True
    cloud.lab.mine()
    (change,) = releases.plan().changes
    assert isinstance(change, Repair)
    assert f"provider {lost}" in change.reason
    assert "terminated" in change.reason
    (outcome,) = releases.apply().outcomes
    assert outcome.state is OutcomeState.APPLIED
    assert cloud.stored == {str(shard.piece): 1 for shard in car.shards}, "the copy came from the other one"
    assert kinds(releases.plan()) == []

    target = cloud.target(payer=str(cloud.payer.key.address), key_env=None, environ={}, max_bytes=LIMIT)
    served = target.dag(root)
    assert shard_pieces(served, target.capabilities.sharding) == car
    expected = [Expected(root, (), pieces=car)]
    assert (
        target.observe(expected, Check.FULL, "reconciler/acme/", QUIET).observations[root].state is State.HELD
    )
