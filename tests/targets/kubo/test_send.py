"""Leaves that a node hashes for us: they count as read, but only once the node accepted them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from reconciler.content.bundle import bare_bundle
from reconciler.content.directory_dag import DirectoryDag
from reconciler.content.identify import identify
from reconciler.content.identity_cache import IdentityCache
from reconciler.errors import SourceChangedError
from reconciler.net.client import HttpClient
from reconciler.net.errors import RejectedError
from reconciler.net.response import UploadBody
from reconciler.net.retry import RetryPolicy
from reconciler.progress import QUIET
from reconciler.targets.kubo.rpc import KuboRpc
from reconciler.targets.kubo.send import send
from tests.support.plant import MIB, noise, plant
from tests.support.unnoticed import cache_everything, write_unnoticed

OLD = noise(3 * MIB + 1, 1)


class Node:
    """A node that reads what it is sent, and accepts it or not."""

    def __init__(self, *, accepts: bool) -> None:
        self.http = HttpClient("http://127.0.0.1:1", name="node")
        self._accepts = accepts

    def dag_import(self, body: UploadBody, retry: RetryPolicy) -> None:
        for _ in body.pieces():
            pass
        if not self._accepts:
            raise RejectedError("node", "rejected a block")


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryDag:
    cache_everything(monkeypatch)
    root = plant(tmp_path / "root", {"weights.bin": OLD})
    cache = IdentityCache(tmp_path / "cache")
    identify(bare_bundle(root), cache=cache)
    return identify(bare_bundle(root), cache=cache)


def send_all(dag: DirectoryDag, *, accepts: bool) -> None:
    node = cast("KuboRpc", Node(accepts=accepts))
    send(node, dag, range(len(dag.layout)), QUIET, "m@1.0.0")


def test_what_the_node_accepted_is_confirmed(dag: DirectoryDag, monkeypatch: pytest.MonkeyPatch) -> None:
    send_all(dag, accepts=True)
    monkeypatch.setattr(DirectoryDag, "_read_span", None)
    dag.confirm()


def test_what_the_node_rejected_is_not_confirmed(dag: DirectoryDag, tmp_path: Path) -> None:
    write_unnoticed(tmp_path / "cache", tmp_path / "root/weights.bin", noise(3 * MIB + 1, 2))
    with pytest.raises(SourceChangedError):
        send_all(dag, accepts=False)
    assert dag.changed


def test_a_rejection_for_another_reason_confirms_no_more_than_was_read_again(dag: DirectoryDag) -> None:
    with pytest.raises(RejectedError):
        send_all(dag, accepts=False)
    assert not dag.changed
    dag.confirm()
