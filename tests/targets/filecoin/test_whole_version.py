"""A version of 3.2 GiB at the size that pieces have in use: stored, lost, repaired and fetched, by commands.

Four pieces with two providers each, on a chain of anvil, take minutes and 4 GB of disk. No source, store or
cache is left when the version is fetched, so that only providers can have its bytes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.measure import peak_memory
from reconciler.deals.onchain.interface import CopyState, DataSetState
from tests.support.large_files import MIB
from tests.support.onchain.large_provider import LargeProvider, large_provider
from tests.support.onchain.repository import ENVIRONMENT, RUN, write_repository
from tests.support.onchain.storage import OnchainStorage, onchain_storage

pytestmark = [pytest.mark.slow, pytest.mark.anvil, pytest.mark.timeout(3600)]

SIZES = {"model-1.safetensors": 2048 * MIB, "model-2.safetensors": 1228 * MIB + 12_345, "config.json": 700}
MEMORY = 256 * MIB


class Machine:
    """A repository, and commands in processes of their own; each must end with its exit code."""

    def __init__(self, root: Path, cloud: OnchainStorage, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        write_repository(root, cloud.lab, SIZES)
        for name, value in (ENVIRONMENT | {"RECONCILE_CACHE": str(root / "cache")}).items():
            patch.setenv(name, value)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command, and say what it took; return what it printed."""
        began = time.perf_counter()
        peak, output = peak_memory(RUN, str(self.root), str(code), *arguments)
        said = " ".join(arguments) or "run"
        print(f"reconcile {said}: {time.perf_counter() - began:.1f} s, {peak / MIB:.0f} MiB", flush=True)
        assert peak <= MEMORY
        return "\n".join(output)

    def forget(self) -> None:
        """Remove every cache and state."""
        for place in ("cache", ".reconcile"):
            shutil.rmtree(self.root / place, ignore_errors=True)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[OnchainStorage]:
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    with onchain_storage(
        anvil=True, providers=3, make=lambda number: large_provider(number, pieces)
    ) as running:
        yield running
    shutil.rmtree(pieces)


def go_silent(cloud: OnchainStorage, lost: LargeProvider) -> None:
    """The provider is gone for good: it answers nothing, has no bytes, and proves nothing any more."""
    lost.faults["down"] = True
    lost.pieces.clear()
    view = cloud.payer.view()
    states = view.data_sets(view.data_set_ids(cloud.payer.key.address))
    for _ in range(4):
        for number, state in states.items():
            assert isinstance(state, DataSetState)
            if state.account.provider_id != lost.number:
                cloud.lab.prove_period(state.account.provider_id, number)


def test_a_version_of_four_full_pieces_survives_the_loss_of_a_provider(
    tmp_path: Path, cloud: OnchainStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconcile = Machine(tmp_path, cloud, monkeypatch)
    assert "costs " in reconcile("plan")
    reconcile()
    (record,) = (tmp_path / "releases/records/llm").glob("*.json")
    pieces = [shard["piece"] for car in json.loads(record.read_text())["pieces"] for shard in car["shards"]]
    assert len(pieces) == 4
    assert cloud.stored == dict.fromkeys(pieces, 1)
    used = [number for number, added in cloud.added.items() if added]
    assert [cloud.added[number] for number in used] == [dict.fromkeys(pieces, 1)] * 2
    cloud.prove()
    reconcile("plan", "--exit-code")

    shutil.rmtree(tmp_path / "weights")
    reconcile.forget()
    (state,) = cloud.payer.view().data_sets([1]).values()
    assert isinstance(state, DataSetState)
    lost, left = cloud.providers[state.account.provider_id], set(cloud.providers) - set(used)
    assert isinstance(lost, LargeProvider)
    go_silent(cloud, lost)
    plan = reconcile("plan", "--exit-code", code=3)
    assert "1.0.0 → filecoin   repair from filecoin" in plan
    assert f"provider {lost.number}" in plan
    assert CopyState.STOPPED.value in plan

    reconcile()
    (third,) = left
    assert cloud.providers[third].pulled == dict.fromkeys(pieces, 1), "they came from the other provider"
    assert cloud.stored == dict.fromkeys(pieces, 1), "and nothing was sent by us"
    reconcile("plan", "--exit-code")

    reconcile.forget()
    try:
        reconcile("fetch", "llm@1.0.0", "fetched", "--no-cache")
        fetched = tmp_path / "fetched"
        done = subprocess.run(
            ["sha256sum", "--check", "--quiet", "SHA256SUMS"],
            cwd=fetched,
            check=False,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert {name: (fetched / name).stat().st_size for name in SIZES} == SIZES
        with (fetched / "model-2.safetensors").open("rb") as file:
            file.seek(100 * MIB)
            assert file.read(9) == (2048 + 100).to_bytes(8, "big") + b"\1"
    finally:
        shutil.rmtree(tmp_path / "fetched", ignore_errors=True)
