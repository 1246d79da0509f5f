"""Pins on a CIDv0, in another base and below another tree: the same root for us, other pins for a node."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import pytest

from reconciler.content import car
from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import BlockUnavailableError, PeerError
from reconciler.index.label import Label
from reconciler.net.response import Response
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, Inventory, Pin, State
from reconciler.targets.kubo.rpc import read_pins
from reconciler.targets.kubo.target import KuboTarget
from tests.support.kubo_node import KuboNode
from tests.support.shapes import bundle
from tests.targets.kubo.conftest import make_target

MARK = "reconciler/i/"
LABEL = Label(f"{MARK}m@1.0.0")


def look(target: KuboTarget, dag: Dag) -> Inventory:
    return target.observe([Expected(dag.layout.root, (LABEL,))], Check.QUICK, MARK, QUIET)


def imported(node: KuboNode, dag: Dag, skip: Sequence[Cid] = ()) -> str:
    """Put the blocks on the node without a pin; return the CIDv0 of the root."""
    file = node.home / "blocks.car"
    positions = [p for p in range(len(dag.layout)) if dag.layout.cid(p) not in skip]
    file.write_bytes(b"".join(car.stream_partial(dag, positions)))
    node.run("dag", "import", "--pin-roots=false", str(file))
    return str(cids.v0_text(dag.layout.root))


@pytest.mark.ipfs
class TestCidV0:
    @pytest.mark.parametrize("name", ["", "backups 2019", "reconciler/someone-else/m@1.0.0"])
    def test_publishing_adds_a_pin_of_ours_and_leaves_the_other(
        self, node: KuboNode, kubo: KuboTarget, name: str
    ) -> None:
        dag = bundle(f"v0 {name}")
        v0 = imported(node, dag)
        node.run("pin", "add", f"--name={name}", v0)
        seen = look(kubo, dag).observations[dag.layout.root]
        assert (seen.state, "CIDv0" in seen.detail) == (State.ABSENT, True)
        assert Pin(dag.layout.root, name, v0) in look(kubo, dag).foreign
        with closing(kubo.dag(dag.layout.root)) as served:
            assert kubo.publish(served, LABEL, QUIET).bytes_sent == 0
        assert node.pins() == {v0: name, str(dag.layout.root): LABEL}
        kubo.unpin(dag.layout.root, LABEL)
        assert node.pins() == {v0: name}

    def test_adopting_adds_a_pin_of_ours_and_leaves_the_other(self, node: KuboNode, kubo: KuboTarget) -> None:
        dag = bundle("adopted v0")
        v0 = imported(node, dag)
        node.run("pin", "add", v0)
        (pin,) = look(kubo, dag).foreign
        kubo.adopt(pin, LABEL)
        kubo.adopt(pin, LABEL)
        assert node.pins() == {v0: "", str(dag.layout.root): LABEL}
        assert look(kubo, dag).observations[dag.layout.root].state is State.HELD

    def test_an_incomplete_one_is_not_adopted(self, node: KuboNode, kubo: KuboTarget) -> None:
        dag = bundle("damaged v0")
        v0 = imported(node, dag)
        node.run("pin", "add", v0)
        (pin,) = look(kubo, dag).foreign
        node.block_file(next(b.cid for b in dag.layout if b.size and b.cid.codec == cids.RAW)).unlink()
        node.restart()
        with pytest.raises(BlockUnavailableError, match="not complete"):
            make_target(node.url).adopt(pin, LABEL)
        assert node.pins() == {v0: ""}

    def test_one_beside_a_pin_of_somebody_else_is_not_adopted(self, node: KuboNode, kubo: KuboTarget) -> None:
        dag = bundle("both")
        v0 = imported(node, dag)
        node.run("pin", "add", v0)
        node.run("pin", "add", "--name=theirs", str(dag.layout.root))
        with pytest.raises(PeerError, match="'theirs'"):
            kubo.adopt(Pin(dag.layout.root, "", v0), LABEL)
        assert node.pins()[str(dag.layout.root)] == "theirs"

    def test_one_with_our_label_is_removed_by_it(self, node: KuboNode, kubo: KuboTarget) -> None:
        dag = bundle("ours by hand")
        v0 = imported(node, dag)
        node.run("pin", "add", f"--name={LABEL}", v0)
        assert [pin.spelling for pin in look(kubo, dag).owned] == [v0]
        kubo.unpin(dag.layout.root, LABEL)
        assert node.pins() == {}


@pytest.mark.ipfs
@pytest.mark.parametrize("kept", ["indirectly", "by nothing"])
def test_blocks_without_a_pin_of_their_own_are_pinned_without_sending(
    node: KuboNode, kubo: KuboTarget, kept: str
) -> None:
    dag = bundle(kept)
    imported(node, dag)
    if kept == "indirectly":
        node.run("files", "mkdir", "/whole")
        node.run("files", "cp", f"/ipfs/{dag.layout.root}", "/whole/part")
        whole = node.run("files", "stat", "--hash", "/whole")
        node.run("pin", "add", "--name=theirs", whole)
        node.run("files", "rm", "-r", "/whole")
    assert look(kubo, dag).observations[dag.layout.root].state is State.ABSENT
    with closing(kubo.dag(dag.layout.root)) as served:
        delivery = kubo.publish(served, LABEL, QUIET)
    assert (delivery.state, delivery.bytes_sent) == (State.HELD, 0)
    assert node.pins()[str(dag.layout.root)] == LABEL


@pytest.mark.parametrize("spell", [str.upper, lambda text: "f" + bytes(cids.parse(text)).hex()])
def test_a_node_that_lists_another_base_lists_the_same_pin(spell: object) -> None:
    root = bundle("base").layout.root
    body = f'{{"Keys": {{"{spell(str(root))}": {{"Type": "recursive", "Name": "x"}}}}}}'  # type: ignore[operator]
    (pin,) = read_pins("node", Response("node", 200, {}, body.encode()))
    assert (pin.root, pin.canonical, pin.name) == (root, True, "x")
