"""Change a node in a process that can be killed: `python kubo_step.py URL SALT NUMBER ACTION`."""

from __future__ import annotations

import sys

from reconciler.index.label import Label
from reconciler.net.client import HttpClient
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.kubo import heal
from reconciler.targets.kubo.rpc import is_command_error
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import MARK
from tests.support.dags import MemoryDag
from tests.support.kubo_node import SMALL_CACHE_ATTEMPT
from tests.support.shapes import Builder

VERSIONS = 4


def version(salt: str, number: int) -> MemoryDag:
    """Return one of VERSIONS versions; neighbours share a directory, and all share a file."""
    build = Builder(salt)
    own = build.file(f"own{number}", 3 + number, 200)
    near = [build.directory(f"sub{n}", [build.file(f"x{n}", 4, 150)]) for n in (number, number + 1)]
    return build.dag(build.directory("", [own, build.file("weights", 12, 300), *near]))


def label(number: int) -> Label:
    """Return the label of a version."""
    return Label(f"{MARK}random@{number}.0.0")


def keep(target: KuboTarget, dag: MemoryDag, number: int) -> None:
    """Publish the version, or repair it where it is pinned, as a run with a full check does."""
    expected = Expected(dag.layout.root, (label(number),))
    seen = target.observe([expected], Check.FULL, MARK, QUIET).observations[dag.layout.root]
    if seen.state is State.ABSENT:
        assert target.publish(dag, label(number), QUIET).state is State.HELD
    elif seen.state is not State.HELD:
        assert target.repair(dag, seen.damaged, label(number), QUIET).state is State.HELD


if __name__ == "__main__":
    url, salt, number, action = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    heal._ATTEMPTS = (SMALL_CACHE_ATTEMPT, *heal._ATTEMPTS)
    node = KuboTarget("node", HttpClient(url, name="node", is_command_error=is_command_error))
    if action == "keep":
        keep(node, version(salt, number), number)
    else:
        node.unpin(version(salt, number).layout.root, label(number))
