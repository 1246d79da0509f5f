"""targets.yaml defines target names, and contains no secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError
from reconciler.index.target_kinds import target_kinds
from reconciler.index.targets_file import load_targets

TEXT = """\
targets:
  store: {kind: store, path: .reconcile/store}
  node:
    kind: kubo
    api: "http://[::1]:5001"
    token_env: KUBO_RPC_TOKEN
    auth: basic
    pin_timeout: 120
  cluster:
    kind: ipfs-cluster
    api: https://cluster.example:9094/base
    replication: {min: 2, max: 3}
    expire_in: 720h
    nodes:
      - {api: "http://10.0.0.1:5001", token_env: NODE_1}
      - {api: "http://10.0.0.2:5001"}
  pins:
    kind: pinning-service
    endpoint: https://pins.example/psa
    token_env: PINS_JWT
    origins: [/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWabc]
    poll: 0
  space:
    kind: storacha
    space: "did:key:z6MkrtwccKRn3rbbcqXab2rcC1dBGye6MQ3aTRoveTuasdrG"
    bridge_secret_env: BRIDGE_SECRET
    bridge_auth_env: BRIDGE_AUTH
    rpc: https://rpc.example/rpc/v1
  onchain:
    kind: filecoin
    network: devnet
    contract: "0x02925630df557F957f70E112bA06e50965417CA0"
    rpc: ["https://one.example/rpc", "https://two.example/rpc"]
    key_env: FILECOIN_KEY
    copies: 2
    providers: [4, 9]
    max_monthly: 10 USDFC
"""


def test_each_kind_has_its_options_typed(tmp_path: Path) -> None:
    path = tmp_path / "targets.yaml"
    path.write_text(TEXT)
    specs = {spec.name: spec for spec in load_targets(path, name="t.yaml")}
    assert [spec.kind for spec in specs.values()] == list(target_kinds())
    onchain = specs["onchain"].options
    assert onchain["contract"] == "0x02925630df557F957f70E112bA06e50965417CA0"
    assert onchain["rpc"] == ["https://one.example/rpc", "https://two.example/rpc"]
    assert (onchain["copies"], onchain["providers"]) == (2, [4, 9])
    assert specs["store"].options == {"path": ".reconcile/store"}
    assert specs["node"].options == {
        "api": "http://[::1]:5001",
        "token_env": "KUBO_RPC_TOKEN",
        "auth": "basic",
        "pin_timeout": 120,
    }
    assert specs["cluster"].options["replication"] == {"min": 2, "max": 3}
    assert specs["cluster"].options["nodes"] == [
        {"api": "http://10.0.0.1:5001", "token_env": "NODE_1"},
        {"api": "http://10.0.0.2:5001"},
    ]
    assert specs["pins"].options["poll"] == 0
    assert specs["pins"].options["origins"] == ["/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWabc"]
    assert str(specs["node"].where) == "t.yaml:3"


def test_without_the_file_there_is_one_store(tmp_path: Path) -> None:
    for path in (None, tmp_path / "targets.yaml"):
        (spec,) = load_targets(path)
        assert (spec.name, spec.kind, spec.options) == ("store", "store", {"path": ".reconcile/store"})


def test_a_stamp_does_not_change_the_targets(tmp_path: Path) -> None:
    path = tmp_path / "targets.yaml"
    path.write_text(TEXT)
    first = load_targets(path, stamp_directory=tmp_path / "cache")
    assert load_targets(path, stamp_directory=tmp_path / "cache") == first
    assert (tmp_path / "cache" / "targets.valid").exists()


def test_the_hint_for_a_secret_names_token_env(tmp_path: Path) -> None:
    path = tmp_path / "targets.yaml"
    path.write_text("targets:\n  n: {kind: kubo, api: http://h, api_key: s3cr3t}\n")
    with pytest.raises(InvalidIndexError) as caught:
        load_targets(path)
    assert "token_env" in (caught.value.hint or "")
    assert "s3cr3t" not in repr(caught.value) + str(caught.value) + str(caught.value.hint)
