"""Putting back what is missing or wrong, and sending nothing else.

The probes come first because they do two things: they find every bad block (`dag/stat` stops at the first),
and they make the node forget that it has what it has not, without which an import changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.progress import Progress
from reconciler.targets.interface import Delivery
from reconciler.targets.kubo.publish import Publisher, check_label, short
from reconciler.targets.kubo.wedge import refuse_if_stuck


def repair(
    publisher: Publisher, dag: Dag, damaged: Sequence[Cid], label: str, progress: Progress
) -> Delivery:
    """As Target.repair says. Blocks of `damaged` are read and hashed, all others asked for their size."""
    check_label(label)
    refuse_if_stuck(publisher.rpc)
    layout, title = dag.layout, short(label)
    suspects = [position for cid in damaged if (position := layout.find(cid)) is not None]
    found = publisher.prober.sizes(layout, range(len(layout)), progress, title)
    found |= publisher.prober.contents(
        layout, [position for position in suspects if position not in found.missing], progress, title
    )
    return publisher.settle(dag, found, label, progress)
