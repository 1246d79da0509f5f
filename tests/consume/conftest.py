"""Small DAGs with files of several leaves, and gateways as their sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.consume.gateway_source import GatewaySource
from reconciler.net.deadline import Timeouts
from reconciler.net.retry import NO_RETRY
from tests.support.dags import MemoryDag
from tests.support.shapes import Builder

PATIENT = Timeouts(connect=30.0, silence=60.0, total=120.0)


@pytest.fixture
def dag(request: pytest.FixtureRequest) -> MemoryDag:
    """A bundle of four files: one with many leaves, one that occurs twice, a small and an empty one."""
    build = Builder("consume")
    twice = build.file("twice.bin", 6, 512)
    return build.dag(
        build.directory(
            "",
            [
                build.file("model.bin", 70, 1024),
                build.directory("sub", [twice, build.file("small", 1, 9)]),
                twice,
                build.file("empty", 1, 0),
            ],
        )
    )


def content(dag: MemoryDag) -> dict[str, bytes]:
    """Return the files of `dag` by path, without the code under test."""
    from reconciler.content.walk import NodeKind, leaf_bytes, walk

    found = walk(dag.layout.root, dag.blocks.__getitem__, raw_size=len(dag.blocks[dag.layout.root]))
    return {
        node.path: b"".join(
            leaf_bytes(found.layout, leaf.position, dag.blocks[found.layout.cid(leaf.position)])
            for leaf in found.leaves(node)
        )
        for node in found.nodes
        if node.kind is NodeKind.FILE
    }


def files(directory: Path) -> dict[str, bytes]:
    """Return the files below `directory` by path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def patient() -> Callable[[str], GatewaySource]:
    """Make gateway sources that fail at once or not at all, however busy the machine is."""
    return lambda url: GatewaySource(url, timeouts=PATIENT, retry=NO_RETRY)
