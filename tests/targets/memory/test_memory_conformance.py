"""The fake target of the loop tests under the conformance suite, in each of its three forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.targets.interface import Capabilities, Check
from tests.conformance.targets import Damage, TargetSuite
from tests.support.memory_target import Held, MemoryTarget, down


class MemorySubject:
    """A memory target; damage is done to its dictionary."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.network: dict[Cid, Dag] = {}
        self.target = MemoryTarget("memory", capabilities, self.network)

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        root = dag.layout.root
        if kind is Damage.CORRUPT_LEAF:
            self.target.corrupt(root, cid)
        elif kind is Damage.TRUNCATED_LEAF:
            self.target.held[root].blocks[cid] = self.target.held[root].blocks[cid][:-1]
        elif kind is Damage.ALL_LOST:
            self.target.lose(root)
        else:
            self.target.lose(root, cid)

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        blocks = {block.cid: dag.read(position) for position, block in enumerate(dag.layout)}
        self.target.held[dag.layout.root] = Held(dag.layout, blocks, [label])

    def serve(self, dag: Dag) -> Sequence[str]:
        self.network[dag.layout.root] = dag
        return ("/memory/other/p2p/other",)

    def snapshot(self) -> object:
        return self.target.snapshot()

    def make_unreachable(self) -> None:
        self.target.faults["observe"] = down("memory")


_SEEN_AT: Mapping[Damage, Check] = {
    Damage.LOST_LEAF: Check.QUICK,
    Damage.CORRUPT_LEAF: Check.SAMPLE,
    Damage.TRUNCATED_LEAF: Check.QUICK,
    Damage.LOST_INNER: Check.QUICK,
    Damage.LOST_ROOT: Check.QUICK,
    Damage.ALL_LOST: Check.QUICK,
}


class TestMemory(TargetSuite):
    seen_at: ClassVar = _SEEN_AT

    @pytest.fixture
    def subject(self) -> MemorySubject:
        return MemorySubject(Capabilities())


class TestMemoryWithOneLabel(TargetSuite):
    seen_at: ClassVar = _SEEN_AT

    @pytest.fixture
    def subject(self) -> MemorySubject:
        return MemorySubject(Capabilities(one_label=True))


class TestMemoryThatFetches(TargetSuite):
    """It takes no bytes and serves none, as a pinning service does."""

    @pytest.fixture
    def subject(self) -> MemorySubject:
        return MemorySubject(Capabilities(takes_bytes=False, pins_by_cid=True, serves_blocks=False))
