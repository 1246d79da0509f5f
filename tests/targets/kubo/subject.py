"""A Kubo node under the conformance suite: damage is done to its flatfs files, never through the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.content import car
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import Damage
from tests.support.kubo_node import KuboNode


@dataclass
class KuboSubject:
    target: KuboTarget
    node: KuboNode
    scratch: Path

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        file = self.node.block_file(cid)
        data = file.read_bytes()
        file.chmod(0o644)
        if kind is Damage.CORRUPT_LEAF:
            file.write_bytes(bytes((data[0] ^ 1,)) + data[1:])
        elif kind is Damage.TRUNCATED_LEAF:
            file.write_bytes(data[: len(data) // 2])
        elif kind is Damage.ALL_LOST:
            for block in dag.layout:
                self.node.block_file(block.cid).unlink()
        else:
            file.unlink()

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        path = self.scratch / "theirs.car"
        path.write_bytes(b"".join(car.stream(dag)))
        self.node.run("dag", "import", "--pin-roots=false", str(path))
        self.node.run("pin", "add", f"--name={label}", str(dag.layout.root))

    def serve(self, dag: Dag) -> Sequence[str]:
        raise AssertionError("a Kubo node is given bytes")

    def snapshot(self) -> object:
        return self.node.pins(), self.node.blocks()

    def make_unreachable(self) -> None:
        self.node.stop()
