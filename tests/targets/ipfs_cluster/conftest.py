"""One real cluster peer for all tests of this room, and one cluster of three for those that let peers die."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.peers_cluster import ClusterPeer, cluster, missing_programs


@pytest.fixture(scope="session")
def one_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterPeer]:
    """A cluster of one, shared: every test uses content of its own."""
    if missing := missing_programs():
        pytest.skip(missing)
    with cluster(tmp_path_factory.mktemp("cluster")) as peers:
        yield peers[0]


@pytest.fixture(scope="module")
def three_peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ClusterPeer]]:
    """Three peers, each with a Kubo."""
    if missing := missing_programs():
        pytest.skip(missing)
    with cluster(tmp_path_factory.mktemp("cluster"), 3) as peers:
        yield peers
