"""Real clusters for the tests of two rooms: the cluster itself, and the pinning-service port of its peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.targets.kubo import heal
from tests.support.fault_proxy import FaultProxy
from tests.support.kubo_node import SMALL_CACHE_ATTEMPT
from tests.support.peers_cluster import ClusterPeer, cluster, missing_programs


@pytest.fixture(autouse=True)
def short_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try first what suffices for the nodes of these tests."""
    monkeypatch.setattr(heal, "_ATTEMPTS", (SMALL_CACHE_ATTEMPT, *heal._ATTEMPTS))


@pytest.fixture(scope="session")
def one_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterPeer]:
    """A cluster of one, shared: every test uses content of its own."""
    if missing := missing_programs():
        pytest.skip(missing)
    with cluster(tmp_path_factory.mktemp("cluster")) as peers:
        yield peers[0]


@pytest.fixture
def behind_proxy() -> Iterator[FaultProxy]:
    """A proxy that can hide a peer; set its `port` before the first request."""
    with FaultProxy("127.0.0.1", 0) as proxy:
        yield proxy
