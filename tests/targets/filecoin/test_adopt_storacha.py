"""`adopt --from storacha` recognizes what a migration brought, by its pieces, and nothing is sent twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.content.car import RootNaming, Sharding, shard_spans, stream_shard
from reconciler.content.dag import Dag
from reconciler.content.pieces import shard_pieces
from reconciler.index.load import load_index
from reconciler.targets.store import StoreTarget
from tests.support.command_line import CommandLine
from tests.support.onchain.lab import KEYS, OWNERS
from tests.support.onchain.storage import OnchainStorage, onchain_storage

SPLIT = Sharding(9_000, RootNaming.LAST)


@pytest.fixture
def cloud() -> Iterator[OnchainStorage]:
    with onchain_storage() as running:
        yield running


@pytest.fixture
def reconcile(
    cloud: OnchainStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> CommandLine:
    """A repository whose versions are in a store and recorded; filecoin is one of their targets now."""
    monkeypatch.setattr("reconciler.targets.storacha.target.CLIENT_SHARDING", SPLIT)
    monkeypatch.setenv("FILECOIN_KEY", KEYS[0])
    made = CommandLine(tmp_path, monkeypatch, capsys)
    made.releases()
    for version in ("1.0.0", "1.1.0"):
        for number in range(20):
            made.write(f"weights/llm/{version}/{number}.bin", f"{version} {number:02}".encode() * 100)
    assert made().code == 0
    entry = {
        "kind": "filecoin",
        "network": "devnet",
        "rpc": [cloud.lab.url],
        "contract": cloud.lab.service,
        "payer": OWNERS[0],
        "key_env": "FILECOIN_KEY",
        "copies": 2,
    }
    targets = {"filecoin": entry, "store": {"kind": "store", "path": ".reconcile/store"}}
    made.write("releases/targets.yaml", json.dumps({"targets": targets}))
    index = made.root / "releases/index.yaml"
    index.write_text(index.read_text().replace("targets: [store]", "targets: [store, filecoin]"))
    return made


def migrate(cloud: OnchainStorage, dag: Dag, *, providers: tuple[int, ...] = (1, 2)) -> int:
    """Do what a migration does: providers get the service's CARs, in data sets of the payer."""
    wanted = [shard.piece for shard in shard_pieces(dag, SPLIT).shards]
    for number in providers:
        for span, piece in zip(shard_spans(dag.layout, SPLIT), wanted, strict=True):
            cloud.providers[number].pieces[str(piece)] = b"".join(stream_shard(dag, span))
        cloud.payer.create(number, wanted, metadata={"source": "storacha-migration"})
    return len(wanted)


def stored(reconcile: CommandLine, version: str) -> Dag:
    cid = load_index(reconcile.root / "releases/index.yaml").models["llm"].versions[version].cid
    assert cid is not None
    return StoreTarget("store", reconcile.root / ".reconcile/store").dag(cid)


def record(reconcile: CommandLine, version: str) -> list[int]:
    """The limits of the CARs that a record names."""
    found = json.loads((reconcile.root / f"releases/records/llm/{version}.json").read_text())
    return [each["max_bytes"] for each in found.get("pieces", [])]


def test_what_a_migration_brought_is_recorded_and_not_sent_again(
    cloud: OnchainStorage, reconcile: CommandLine
) -> None:
    with_pieces = migrate(cloud, stored(reconcile, "1.0.0"))
    assert with_pieces > 2
    listed = reconcile("adopt", "--from", "storacha")
    assert listed.code == 0, listed.err
    assert f"filecoin: llm@1.0.0: carried over: {with_pieces} pieces, 2 copies of each" in listed.out
    assert "filecoin: llm@1.1.0: not carried over: 0 of" in listed.out
    assert "--take` records their pieces" in listed.err
    assert record(reconcile, "1.0.0") == []

    taken = reconcile("adopt", "--from", "storacha", "--take", "--json")
    assert [item["state"] for item in taken.document["items"]] == ["foreign", "adopted"]
    assert (record(reconcile, "1.0.0"), record(reconcile, "1.1.0")) == ([SPLIT.max_bytes], [])

    before = dict(cloud.stored)
    plan = reconcile("plan", "--only", "llm@1.0.0", "--json").document
    assert [item["change"] for item in plan["items"] if item["target"] == "filecoin"] == []
    assert reconcile("--only", "llm@1.0.0").code == 0
    assert dict(cloud.stored) == before, "nothing was sent"
    again = reconcile("adopt", "--from", "storacha", "--take")
    assert "carried over" in again.out
    status = reconcile("status", "--only", "llm@1.0.0", "--deals")
    assert status.out.count("pdp:") == 2 * with_pieces


def test_its_blocks_are_read_from_providers_when_all_else_is_gone(
    cloud: OnchainStorage, reconcile: CommandLine
) -> None:
    dag = stored(reconcile, "1.0.0")
    migrate(cloud, dag)
    assert reconcile("adopt", "--from", "storacha", "--take").code == 0
    for file in (reconcile.root / ".reconcile/store/cars").iterdir():
        file.unlink()
    for file in (reconcile.root / "weights/llm/1.0.0").iterdir():
        file.unlink()
    (reconcile.root / "weights/llm/1.0.0").rmdir()
    plan = reconcile("plan", "--only", "llm@1.0.0")
    assert "repair from filecoin" in plan.out
    assert reconcile("--only", "llm@1.0.0").code == 0
    assert list((reconcile.root / ".reconcile/store/cars").glob("*.car"))
    deep = reconcile("status", "--only", "llm@1.0.0", "--check", "full", "--exit-code")
    assert deep.code == 0, deep.out


@pytest.mark.parametrize("damage", ["one copy", "one piece", "other bytes"])
def test_what_is_incomplete_does_not_count(
    cloud: OnchainStorage, reconcile: CommandLine, damage: str
) -> None:
    dag = stored(reconcile, "1.0.0")
    if damage == "one piece":
        pieces = [shard.piece for shard in shard_pieces(dag, SPLIT).shards]
        cloud.payer.create(1, pieces[:-1])
    elif damage == "one copy":
        migrate(cloud, dag, providers=(1,))
    else:
        migrate(cloud, stored(reconcile, "1.1.0"))
    found = reconcile("adopt", "--from", "storacha", "--take")
    line = next(each for each in found.out.splitlines() if "llm@1.0.0" in each)
    assert ("1 copy of each" in line) == (damage == "one copy")
    assert ("not carried over" in line) == (damage != "one copy")
    plan = reconcile("plan", "--only", "llm@1.0.0")
    assert "→ filecoin" in plan.out
    assert "costs " in plan.out


def test_unpaid_bytes_at_a_named_provider_are_pointed_out(
    cloud: OnchainStorage, reconcile: CommandLine
) -> None:
    targets = reconcile.root / "releases/targets.yaml"
    given = json.loads(targets.read_text())
    given["targets"]["filecoin"]["providers"] = [1, 2]
    targets.write_text(json.dumps(given))
    dag = stored(reconcile, "1.0.0")
    for span, shard in zip(shard_spans(dag.layout, SPLIT), shard_pieces(dag, SPLIT).shards, strict=True):
        cloud.providers[2].pieces[str(shard.piece)] = b"".join(stream_shard(dag, span))
    line = next(
        each for each in reconcile("adopt", "--from", "storacha").out.splitlines() if "llm@1.0.0" in each
    )
    assert line.endswith("provider 2 (beta) has bytes of it in no data set of the payer")


def test_a_version_of_unknown_pieces_and_another_service_are_named(reconcile: CommandLine) -> None:
    for file in (reconcile.root / "weights/llm/1.0.0").iterdir():
        file.unlink()
    (reconcile.root / "weights/llm/1.0.0").rmdir()
    found = reconcile("adopt", "--from", "storacha")
    assert "its record has no pieces of that service, and its bytes are not here" in found.out
    refused = reconcile("adopt", "--from", "web3")
    assert (refused.code, "unknown service 'web3'" in refused.err) == (2, True)
