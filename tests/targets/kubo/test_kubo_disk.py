"""The disk of the node is full: one clear error, nothing pinned, and the next run finishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import PeerError
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from tests.conformance.targets import LABEL, MARK
from tests.support.kubo_node import kubo_node
from tests.support.shapes import Builder
from tests.support.small_disk import small_disk
from tests.targets.kubo.conftest import make_target

pytestmark = pytest.mark.ipfs


@pytest.mark.parametrize(("megabytes", "disk_size"), [(30, 20), (150, 100)])
def test_a_full_disk_is_named_and_nothing_is_pinned(tmp_path: Path, megabytes: int, disk_size: int) -> None:
    """Also when the disk fills in the middle of several streams; afterwards only the rest is sent."""
    build = Builder(f"full {megabytes}")
    dag = build.dag(build.file("weights", megabytes, 1 << 20))
    with (
        small_disk(tmp_path / "small", disk_size) as disk,
        kubo_node(disk.path / "kubo", config={"Datastore.StorageMax": "10GB"}) as node,
    ):
        target = make_target(node.url, attempts=2)
        with pytest.raises(PeerError) as caught:
            target.publish(dag, LABEL, QUIET)
        assert "no space left on device" in str(caught.value)
        assert caught.value.hint is not None
        assert "disk" in caught.value.hint
        assert str(dag.layout.root) not in node.pins()
        root = dag.layout.root
        seen = target.observe([Expected(root, (LABEL,))], Check.FULL, MARK, QUIET)
        assert seen.observations[root].state is not State.HELD
        # Kubo writes in batches; how many of them came before the disk was full is its own affair.
        kept = sum(node.block_file(dag.layout.cid(position)).exists() for position in range(len(dag.layout)))
        disk.grow(600)
        done = target.publish(dag, LABEL, QUIET)
        assert done.state is State.HELD
        assert done.blocks_sent == len(dag.layout) - kept
        assert list(node.pins().values()).count(LABEL) == 1
