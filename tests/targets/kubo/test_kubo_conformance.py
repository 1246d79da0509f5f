"""The conformance suite on a real Kubo daemon."""

from __future__ import annotations

from typing import ClassVar

import pytest

from reconciler.progress import QUIET
from reconciler.targets.interface import Check
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import LABEL, Damage, TargetSuite
from tests.support.shapes import bundle, empty_directory
from tests.targets.kubo.subject import KuboSubject


@pytest.mark.ipfs
class TestKubo(TargetSuite):
    seen_at: ClassVar = {
        Damage.LOST_LEAF: Check.SAMPLE,
        Damage.TRUNCATED_LEAF: Check.SAMPLE,
        Damage.CORRUPT_LEAF: Check.FULL,
        Damage.LOST_INNER: Check.SAMPLE,
        Damage.LOST_ROOT: Check.SAMPLE,
        Damage.ALL_LOST: Check.SAMPLE,
    }
    fast_damage: ClassVar = (Damage.CORRUPT_LEAF,)
    resumes: ClassVar = True

    def test_publish_says_what_it_sent(self, subject: KuboSubject, target: KuboTarget, salt: str) -> None:
        """Everything but the empty directory, which every node has: it is the root of its mutable files."""
        dag = bundle(salt)
        there = next(block for block in dag.layout if block.cid == empty_directory("").layout.root)
        delivery = target.publish(dag, LABEL, QUIET)
        assert (delivery.bytes_sent, delivery.blocks_sent) == (
            dag.layout.size - there.size,
            len(dag.layout) - 1,
        )
