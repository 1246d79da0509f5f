"""Leaves that a node hashes for us: they count as read, but only once the node accepted them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

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
from reconciler.targets import upload_streams
from reconciler.targets.kubo import send as kubo_send
from reconciler.targets.kubo.rpc import KuboRpc
from reconciler.targets.upload_streams import UploadStreams
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


@pytest.fixture
def send_all(dag: DirectoryDag, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*, accepts: bool) -> None:
        send_to(Node(accepts=accepts), dag, monkeypatch)

    return run


def send_to(node: Node, dag: DirectoryDag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubo_send, "KuboRpc", lambda _: node)  # for connections of its own
    kubo_send.send(cast("KuboRpc", node), dag, range(len(dag.layout)), QUIET, "m@1.0.0")


def test_what_the_node_accepted_is_confirmed(
    dag: DirectoryDag, send_all: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    send_all(accepts=True)
    monkeypatch.setattr(DirectoryDag, "_read_span", None)
    dag.confirm()


def test_what_the_node_rejected_is_not_confirmed(
    dag: DirectoryDag, send_all: Callable[..., None], tmp_path: Path
) -> None:
    write_unnoticed(tmp_path / "cache", tmp_path / "root/weights.bin", noise(3 * MIB + 1, 2))
    with pytest.raises(SourceChangedError):
        send_all(accepts=False)
    assert dag.changed


def test_a_rejection_for_another_reason_confirms_no_more_than_was_read_again(
    dag: DirectoryDag, send_all: Callable[..., None]
) -> None:
    with pytest.raises(RejectedError):
        send_all(accepts=False)
    assert not dag.changed
    dag.confirm()


def test_of_two_requests_that_fail_at_once_the_error_is_about_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the first was changed, that of the second was not."""
    cache_everything(monkeypatch)
    monkeypatch.setattr(kubo_send, "_SMALL", 0)
    monkeypatch.setattr(upload_streams, "LARGEST_JOB", MIB)
    root = plant(tmp_path / "root", {"changed": noise(MIB, 1), "other": noise(MIB // 2, 2)})
    cache = IdentityCache(tmp_path / "cache")
    identify(bare_bundle(root), cache=cache)
    dag = identify(bare_bundle(root), cache=cache)
    write_unnoticed(tmp_path / "cache", root / "changed", noise(MIB, 3))
    both, first_failed = threading.Barrier(2), threading.Event()

    class FailsTwice(Node):
        def dag_import(self, body: UploadBody, retry: RetryPolicy) -> None:
            is_first = sum(map(len, body.pieces())) > MIB
            both.wait(30)
            if not is_first:
                assert first_failed.wait(30)
            raise RejectedError("node", "rejected a block")

    decide = UploadStreams._passes

    def passes(streams: UploadStreams, *failure: Any) -> bool:
        first_failed.set()
        time.sleep(0.05)  # in which the other one fails as well
        return decide(streams, *failure)

    monkeypatch.setattr(UploadStreams, "_passes", passes)
    with pytest.raises(SourceChangedError, match="'changed'"):
        send_to(FailsTwice(accepts=False), dag, monkeypatch)


@pytest.mark.parametrize("small", [0, MIB << 10])
def test_a_node_that_was_slow_at_its_start_is_near_for_the_streams(
    dag: DirectoryDag, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    latencies: list[float] = []

    class Streams(UploadStreams):
        def __init__(self, http: HttpClient, *others: Any, **options: Any) -> None:
            latencies.append(http.latency)
            super().__init__(http, *others, **options)

        def run(self, *_: object) -> None:
            """Send nothing."""

    def measure(http: HttpClient) -> float:
        http.latency = 0.001
        return http.latency

    monkeypatch.setattr(HttpClient, "probe_latency", measure)
    monkeypatch.setattr(kubo_send, "UploadStreams", Streams)
    monkeypatch.setattr(kubo_send, "_SMALL", small)
    http = HttpClient("http://127.0.0.1:1", name="node")
    http.latency = 1.0
    kubo_send.send(KuboRpc(http), dag, range(len(dag.layout)), QUIET, "m@1.0.0")
    http.close()
    assert set(latencies) == {0.001}
