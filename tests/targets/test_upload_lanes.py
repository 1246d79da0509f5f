"""An upload that fails ends its own requests, and none of another lane that uses the same client."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from reconciler.errors import PeerError
from reconciler.net.client import HttpClient
from reconciler.net.retry import NO_RETRY
from reconciler.progress import QUIET
from reconciler.targets.ipfs_cluster.rest import ClusterRest
from reconciler.targets.ipfs_cluster.send import send_blocks
from reconciler.targets.kubo.rpc import KuboRpc
from reconciler.targets.kubo.send import send
from tests.support.dags import MemoryDag
from tests.support.http_peer import Asked, Said, http_peer
from tests.support.shapes import bundle

Upload = Callable[[HttpClient, MemoryDag], object]


def to_kubo(http: HttpClient, dag: MemoryDag) -> object:
    return send(KuboRpc(http), dag, range(len(dag.layout)), QUIET, "m@1.0.0")


def to_cluster(http: HttpClient, dag: MemoryDag) -> object:
    return send_blocks(ClusterRest(http), dag, range(len(dag.layout)), None, QUIET, "m@1.0.0")


@pytest.mark.parametrize("upload", [to_kubo, to_cluster])
def test_a_lane_that_reads_from_the_same_node_is_not_interrupted(upload: Upload) -> None:
    reading, failed = threading.Event(), threading.Event()
    found: list[bytes | Exception] = []

    def answer(asked: Asked) -> Said:
        if asked.target != "/block":
            return Said(400)
        reading.set()
        return Said(body=b"a block" if failed.wait(30) else b"")

    with http_peer(answer) as peer:
        http = HttpClient(peer.url, name="node")

        def read() -> None:
            try:
                found.append(http.request("GET", "block", repeatable=True, retry=NO_RETRY).body)
            except Exception as error:
                found.append(error)

        lane = threading.Thread(target=read)
        lane.start()
        assert reading.wait(30)
        with pytest.raises(PeerError):
            upload(http, bundle("lanes"))
        failed.set()
        lane.join(30)
        http.close()
    assert found == [b"a block"]
