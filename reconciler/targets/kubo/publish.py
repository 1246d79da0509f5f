"""Making a node hold a DAG, and proving that it does.

    complete  send what is missing, until dag/stat, offline, has our number of blocks and bytes
    pin       only then, under our name, within a time limit; then see that it is there under that name

`pin/add` reads every block itself while it keeps garbage collection out, so a pin that succeeded is the
second look: what a collection took between the two steps makes it fail, and the first step begins again.

An online node that is asked to pin an incomplete DAG waits for the network for ever. `dag/import` with
`pin-roots=true` and `pin/add` both drop an existing pin's name, and on a failed walk the pin itself; so a pin
that is not ours is never touched, and ours only when everything under it was just seen.

Putting back what is missing or wrong, and sending nothing else.

The probes come first because they do two things: they find every bad block (`dag/stat` stops at the first),
and they make the node forget that it has what it has not, without which an import changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.errors import UsageError
from reconciler.index.label import Label
from reconciler.net.errors import AccessDeniedError, UnexpectedResponseError
from reconciler.progress import Progress
from reconciler.targets.interface import Delivery, State
from reconciler.targets.kubo.answers import DagStat
from reconciler.targets.kubo.heal import Healer
from reconciler.targets.kubo.probe import Findings, Prober, refuse_if_stuck
from reconciler.targets.kubo.rpc import KuboRpc
from reconciler.targets.kubo.send import Sent, send

_LONGEST_NAME = 255  # bytes; Kubo's own limit
_ROUNDS = 4  # send; send what it only believed to have; what a collection took meanwhile
_SAMPLES = 32  # blocks that tell whether anything of a DAG is there at all
_NO_MAXIMUM = 1 << 63  # a StorageMax from here on means none


def check_label(label: Label) -> None:
    """Raises UsageError for a label that no pin can carry; Kubo counts bytes, and says so only at the end."""
    size = len(label.encode())
    if size > _LONGEST_NAME:
        raise UsageError(
            f"the label {label[:40]!r}… has {size} bytes; a pin name may have {_LONGEST_NAME}",
            hint="shorten the name of the model, or the id of the index",
        )


@dataclass(frozen=True, slots=True)
class Publisher:
    """What publishing and repairing share. `pin_seconds` is the longest that one pin may take."""

    rpc: KuboRpc
    prober: Prober
    healer: Healer
    pin_seconds: int

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """As Target.publish says."""
        check_label(label)
        refuse_if_stuck(self.rpc)
        title = label.name
        found = self.look(dag.layout, progress, title)
        self.warn_if_full(dag.layout, found, progress)
        return self.settle(dag, found, label, progress)

    def look(self, layout: DagLayout, progress: Progress, title: str) -> Findings:
        """Which blocks have to be sent.

        A DAG of which a sample finds nothing is taken as not there at all.
        """
        everything = range(len(layout))
        step = max(1, len(layout) // _SAMPLES)
        if not self.prober.any_there([layout.cid(position) for position in everything[::step]]):
            return Findings(missing=frozenset(everything))
        return self.prober.sizes(layout, everything, progress, title)

    def settle(self, dag: Dag, found: Findings, label: Label, progress: Progress) -> Delivery:
        """Send what `found` lacks, prove the whole, and pin it."""
        layout, title, sent = dag.layout, label.name, Sent()
        for _ in range(_ROUNDS):
            if found.missing:
                sent += send(self.rpc, dag, sorted(found.missing), progress, title)
            if found.wrong:
                sent += self.healer.replace(dag, found.wrong, label, progress)
            if not self._complete(layout):
                found = self.prober.sizes(layout, range(len(layout)), progress, title)
                continue
            name = self.rpc.pin_name(layout.root)
            if name == label:
                return Delivery(State.HELD, sent.size, sent.blocks)
            if name is not None and not name.startswith(label.mark):
                return Delivery(State.HELD, sent.size, sent.blocks, foreign(name))
            pinned = self.rpc.pin_add(layout.root, label, self.pin_seconds)
            if pinned and self.rpc.pin_name(layout.root) == label:
                return Delivery(State.HELD, sent.size, sent.blocks)
            found = self.prober.sizes(layout, range(len(layout)), progress, title)
        raise UnexpectedResponseError(
            self.rpc.name,
            f"does not keep what it is sent of {layout.root}",
            hint="is something removing blocks, or is its disk full? see `ipfs repo stat` and the node's log",
        )

    def warn_if_full(self, layout: DagLayout, found: Findings, progress: Progress) -> None:
        """Say when the node would have more than its StorageMax, which it does not enforce."""
        coming = sum(layout.block_size(position) for position in found.missing)
        if not coming:
            return
        try:
            repo = self.rpc.repo_stat()
        except AccessDeniedError:
            return
        if repo.maximum < _NO_MAXIMUM and repo.size + coming > repo.maximum:
            progress.note(
                f"{self.rpc.name}: {coming} bytes come to the {repo.size} it has, beyond its StorageMax of "
                f"{repo.maximum}; it takes them all the same, so watch its disk"
            )

    def _complete(self, layout: DagLayout) -> bool:
        return self.rpc.dag_stat(layout.root, layout.size) == DagStat(len(layout), layout.size)


def foreign(name: str) -> str:
    """What to say of a pin that is not ours."""
    said = f"named {name!r}" if name else "without a name"
    return f"held under a pin that is not ours ({said}), which was left as it is"


def repair(
    publisher: Publisher, dag: Dag, damaged: Sequence[Cid], label: Label, progress: Progress
) -> Delivery:
    """As Target.repair says. Blocks of `damaged` are read and hashed, all others asked for their size."""
    check_label(label)
    refuse_if_stuck(publisher.rpc)
    layout, title = dag.layout, label.name
    suspects = [position for cid in damaged if (position := layout.find(cid)) is not None]
    found = publisher.prober.sizes(layout, range(len(layout)), progress, title)
    found |= publisher.prober.contents(
        layout, [position for position in suspects if position not in found.missing], progress, title
    )
    return publisher.settle(dag, found, label, progress)
