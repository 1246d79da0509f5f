"""One Kubo daemon for all tests of this folder, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from reconciler.net.client import HttpClient, Timeouts
from reconciler.net.retry import RetryPolicy
from reconciler.targets.kubo.rpc import is_command_error
from reconciler.targets.kubo.target import KuboTarget
from tests.support.fault_proxy import FaultProxy
from tests.support.kubo_node import SMALL_CACHE, KuboNode, kubo_node
from tests.targets.kubo.subject import KuboSubject

_OPEN: list[KuboTarget] = []


@pytest.fixture(autouse=True)
def close_targets() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


@pytest.fixture(scope="session")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboNode]:
    with kubo_node(tmp_path_factory.mktemp("kubo"), config=SMALL_CACHE) as node:
        yield node


@pytest.fixture
def node(shared_node: KuboNode) -> KuboNode:
    if not shared_node.running:
        shared_node.start()
    shared_node.empty()
    return shared_node


@pytest.fixture
def proxy(node: KuboNode) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", node.port) as running:
        yield running


@pytest.fixture
def kubo(node: KuboNode) -> KuboTarget:
    """A target that retries without a pause."""
    return make_target(node.url)


@pytest.fixture
def subject(node: KuboNode, kubo: KuboTarget, tmp_path: Path) -> KuboSubject:
    return KuboSubject(kubo, node, tmp_path)


def make_target(url: str, *, attempts: int = 3) -> KuboTarget:
    http = HttpClient(
        url,
        name="node",
        timeouts=Timeouts(connect=30, silence=60, total=120),
        retry=RetryPolicy(attempts=attempts),
        sleep=lambda seconds: None,
        is_command_error=is_command_error,
    )
    target = KuboTarget("node", http, pin_seconds=30, random=Random(7))
    return opened(target)


def opened(target: KuboTarget) -> KuboTarget:
    """Return `target`, and close it when the test ends."""
    _OPEN.append(target)
    return target
