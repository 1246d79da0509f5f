"""What each call of a real node says of damage, measured, is the table in docs/drift.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.content import car
from reconciler.content.cid import RAW, Cid
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from reconciler.targets.kubo.target import KuboTarget
from tests.conformance.targets import LABEL, MARK, Damage
from tests.support.dags import MemoryDag
from tests.support.kubo_node import KuboNode
from tests.support.scratch import PROJECT
from tests.support.shapes import Builder
from tests.targets.kubo.conftest import make_target
from tests.targets.kubo.subject import KuboSubject

pytestmark = pytest.mark.ipfs

PAGE = PROJECT / "docs" / "drift.md"
DAMAGE = (Damage.LOST_LEAF, Damage.CORRUPT_LEAF, Damage.TRUNCATED_LEAF, Damage.LOST_INNER)
CALLS = {
    "`pin/ls`": "pin/ls?arg={root}&type=recursive",
    "`pin/verify`": "pin/verify?verbose=true",
    "`dag/stat`": "dag/stat?arg={root}&offline=true&progress=false",
    "`block/stat` of the block": "block/stat?arg={bad}&offline=true",
    "`block/get` of the block": "block/get?arg={bad}&offline=true",
    "`cat`": "cat?arg={root}/weights&offline=true",
    "`dag/export`": "dag/export?arg={root}&offline=true&progress=false",
    "`repo/verify`": "repo/verify",
}


def asked(node: KuboNode, call: str) -> tuple[int, bytes]:
    """What a client sees: status and body; what stands in a trailer it does not."""
    return node.call(call)


def said(before: tuple[int, bytes], after: tuple[int, bytes]) -> str:
    if after[0] != 200:
        return "error"
    if after == before:
        return "nothing"
    return "200, shorter" if len(after[1]) < len(before[1]) else "200, different"


def ours(check: Check) -> Callable[[KuboTarget, MemoryDag, Cid], str]:
    def look(target: KuboTarget, dag: MemoryDag, bad: Cid) -> str:
        root = dag.layout.root
        seen = target.observe([Expected(root, (LABEL,))], check, MARK, QUIET).observations[root]
        if seen.state is State.HELD:
            return "nothing"
        return "**names the block**" if seen.damaged == (bad,) else "**partial**"

    return look


def measure(subject: KuboSubject, salt: str) -> dict[str, list[str]]:
    """The table: a row for each call, a column for each kind of DAMAGE."""
    rows: dict[str, list[str]] = {}
    for kind in DAMAGE:
        subject.node.empty()
        target = make_target(subject.node.url)
        build = Builder(salt + kind.name)
        dag = build.dag(build.directory("", [build.file("weights", 60, 100)]))
        target.publish(dag, LABEL, QUIET)
        tree = [dag.layout.cid(position) for position in dag.layout.tree_positions()]
        leaves = [block.cid for block in dag.layout if block.cid.codec == RAW]
        bad = tree[1] if kind is Damage.LOST_INNER else leaves[40]
        filled = {name: call.format(root=dag.layout.root, bad=bad) for name, call in CALLS.items()}
        before = {name: asked(subject.node, call) for name, call in filled.items()}
        subject.damage(dag, kind, bad)
        for name, call in filled.items():
            if name != "`repo/verify`":
                rows.setdefault(name, []).append(said(before[name], asked(subject.node, call)))
        rows.setdefault("ours, `--check quick`", []).append(ours(Check.QUICK)(target, dag, bad))
        if kind is not Damage.CORRUPT_LEAF:
            rows.setdefault("ours, `--check sample`", []).append(ours(Check.SAMPLE)(target, dag, bad))
        else:
            rows.setdefault("ours, `--check sample`", []).append("when it is in the sample")
        rows.setdefault("ours, `--check full`", []).append(ours(Check.FULL)(target, dag, bad))
        verified = asked(subject.node, "repo/verify")[1]
        rows.setdefault("`repo/verify`", []).append(
            "names the block" if b"corrupt" in verified else "nothing"
        )
        delivery = target.repair(dag, (bad,), LABEL, QUIET)
        healed = ours(Check.FULL)(target, dag, bad) == "nothing"
        rows.setdefault("ours, repair sends", []).append(
            f"{delivery.blocks_sent} block" if healed else "fails"
        )
    return rows


def reimported(subject: KuboSubject, salt: str, scratch: Path) -> list[str]:
    """Whether sending the whole CAR again heals, on a node that has not looked since."""
    found = []
    for kind in DAMAGE:
        subject.node.empty()
        target = make_target(subject.node.url)
        build = Builder(salt + kind.name)
        dag = build.dag(build.directory("", [build.file("weights", 60, 100)]))
        target.publish(dag, LABEL, QUIET)
        tree = [dag.layout.cid(position) for position in dag.layout.tree_positions()]
        bad = tree[1] if kind is Damage.LOST_INNER else dag.layout.cid(50)
        subject.damage(dag, kind, bad)
        path = scratch / "again.car"
        path.write_bytes(b"".join(car.stream(dag)))
        subject.node.run("dag", "import", "--pin-roots=false", str(path))
        found.append("heals" if ours(Check.FULL)(target, dag, bad) == "nothing" else "200, heals nothing")
    return found


def test_the_table_of_the_page_is_what_a_node_says(subject: KuboSubject, tmp_path: Path) -> None:
    rows = measure(subject, "drift")
    rows["`dag/import` of the whole CAR again"] = reimported(subject, "again", tmp_path)
    subject.node.empty()  # its last pin is damaged
    order = [
        *CALLS,
        "`dag/import` of the whole CAR again",
        *(name for name in rows if name.startswith("ours")),
    ]
    lines = [f"| {name} | {' | '.join(rows[name])} |" for name in order]
    page = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(page) if line.startswith("| call |")) + 2
    assert page[start : start + len(lines)] == lines
