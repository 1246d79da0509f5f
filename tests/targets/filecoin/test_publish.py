"""Publishing to providers: what is sent, added, pulled and paid."""

from __future__ import annotations

from reconciler.content.pieces import shard_pieces
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.interface import Check, Expected, State
from tests.support.onchain.storage import OnchainStorage
from tests.support.shapes import bundle

LABEL = Label("reconciler/acme/model@1.0.0")


def test_one_copy_of_a_bundle(cloud: OnchainStorage) -> None:
    dag = bundle("one copy")
    target = cloud.target()
    delivery = target.publish(dag, LABEL, QUIET)
    assert (delivery.state, delivery.bytes_sent) == (State.HELD, dag.layout.size)
    assert delivery.pieces == shard_pieces(dag, target.capabilities.sharding)
    seen = target.observe([Expected(dag.layout.root, (LABEL,))], Check.QUICK, LABEL.mark, QUIET)
    assert seen.observations[dag.layout.root].state is State.HELD
