"""The options of a cluster target in targets.yaml, or one error with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import InvalidIndexError, UserError, Where
from reconciler.index.model import TargetSpec
from reconciler.net.auth import Scheme
from reconciler.targets.ipfs_cluster import open_target
from reconciler.targets.ipfs_cluster.options import ClusterOptions, read_options

API = "http://127.0.0.1:9094"


def options(environ: dict[str, str] | None = None, **values: object) -> ClusterOptions:
    spec = TargetSpec("cluster", "ipfs-cluster", {"api": API, **values}, Where("targets.yaml", 3))
    return read_options(spec, environ or {})


def test_the_address_is_enough() -> None:
    found = options()
    assert (found.api, found.auth, found.factor_min, found.expire_in, found.nodes) == (API, None, 0, "", ())


@pytest.mark.parametrize(
    ("value", "factors"),
    [({"min": 2, "max": 3}, (2, 3)), ({"min": -1, "max": -1}, (-1, -1)), ({"min": 1, "max": 1}, (1, 1))],
)
def test_replication_factors_are_read(value: object, factors: tuple[int, int]) -> None:
    found = options(replication=value)
    assert (found.factor_min, found.factor_max) == factors


@pytest.mark.parametrize(
    "value",
    [
        {"min": 3, "max": 2},
        {"min": 0, "max": 2},
        {"min": -1, "max": 2},
        {"min": 1, "max": -1},
        {},
        2,
        "2",
        {"min": "a"},
    ],
)
def test_an_invalid_replication_is_refused(value: object) -> None:
    with pytest.raises(InvalidIndexError, match="replication") as caught:
        options(replication=value)
    assert caught.value.where == Where("targets.yaml", 3)


def test_expiry_in_seconds() -> None:
    assert options(expire_in="720h").expire_seconds == 720 * 3600
    assert options(expire_in="1h30m").expire_seconds == 5400


@pytest.mark.parametrize("text", ["30d", "0h", "-1h", "h", "1", "1 h", "1h2", "1e9h"])
def test_a_malformed_expiry_is_refused(text: str) -> None:
    with pytest.raises(InvalidIndexError, match="expire_in"):
        options(expire_in=text)


@pytest.mark.parametrize(("secret", "scheme"), [("ey.a.b", Scheme.BEARER), ("ci:pass", Scheme.BASIC)])
def test_the_secret_selects_the_scheme(secret: str, scheme: Scheme) -> None:
    found = options({"TOKEN": secret}, token_env="TOKEN")
    assert found.auth is not None
    assert found.auth.scheme is scheme
    assert secret not in repr(found)


def test_the_scheme_can_be_configured() -> None:
    found = options({"TOKEN": "odd:token"}, token_env="TOKEN", auth="bearer")
    assert found.auth is not None
    assert found.auth.scheme is Scheme.BEARER


def test_a_secret_that_is_not_set_names_its_variable() -> None:
    with pytest.raises(UserError, match="CLUSTER_TOKEN"):
        options(token_env="CLUSTER_TOKEN")


def test_nodes_are_kubo_targets_with_names_of_their_own() -> None:
    found = options(nodes=[{"api": "http://127.0.0.1:5001"}, {"api": "http://127.0.0.1:5002"}])
    assert [(node.name, node.kind) for node in found.nodes] == [
        ("cluster/node1", "kubo"),
        ("cluster/node2", "kubo"),
    ]


@pytest.mark.parametrize("value", [[{}], ["http://127.0.0.1:5001"], "http://127.0.0.1:5001"])
def test_a_node_without_an_address_is_refused(value: object) -> None:
    with pytest.raises(InvalidIndexError, match="node 1"):
        options(nodes=value)


def test_opening_a_target_sends_no_request(tmp_path: Path) -> None:
    values = {"api": "http://127.0.0.1:9", "nodes": [{"api": "http://127.0.0.1:9"}]}
    spec = TargetSpec("cluster", "ipfs-cluster", values, Where("targets.yaml"))
    target = open_target(spec, root=tmp_path, environ={})
    assert target.capabilities.serves_blocks
    target.close()
    with pytest.raises(UserError):
        bad = TargetSpec("cluster", "ipfs-cluster", {"api": "ftp://host"}, Where("targets.yaml"))
        open_target(bad, root=tmp_path, environ={})
