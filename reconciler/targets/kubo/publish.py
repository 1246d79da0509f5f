"""Publishing a DAG to a node, and repairing one.

    find      look up every block, and read and hash each one that the node has: it verifies nothing itself
    complete  send missing blocks and overwrite damaged ones, until `dag/stat`, offline, reports our number of
              blocks and bytes
    pin       only then pin under our label, within a time limit, and check the name of the pin

`pin/add` reads every block while it keeps garbage collection out, so a pin that succeeded is a second check:
if a collection removed a block between the two steps, the pin fails and the first step begins again.

`dag/stat` reads everything, so it is left out after the first sending of a large DAG, when nothing can be
missing: each block was either read and hashed here just now, or the node did not have it, received it, and
hashed it to our CID. Only a garbage collection could have removed blocks since, and one that does removes all
that have no pin, the first ones too; so some of them are looked up, and of those
that were there before.

An online node that is asked to pin an incomplete DAG waits for the network without end. `dag/import` with
`pin-roots=true` and `pin/add` both drop the name of an existing pin and, when the walk fails, the pin itself.
So a pin that is not ours is never touched, and ours only when everything under it was just checked.

All blocks are probed first, also those of a version that is new to the node, whose files other versions and
other programs may share. Probing finds every bad block, where `dag/stat` stops at the first; and it clears
stale cache entries of the node, which would make an import skip missing blocks. A repair does the same,
whatever was observed: behind a damaged inner node, the observation saw nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.part_dag import PartDag
from reconciler.errors import PeerError, UsageError
from reconciler.index.label import Label
from reconciler.net.errors import AccessDeniedError, UnexpectedResponseError
from reconciler.progress import Progress
from reconciler.targets.interface import Delivery, State
from reconciler.targets.kubo.heal import BlockReplacer
from reconciler.targets.kubo.probe import BadBlocks, Prober, check_not_stuck
from reconciler.targets.kubo.rpc import DagStat, KuboRpc
from reconciler.targets.kubo.send import TransferStats, send

_LONGEST_NAME = 255  # bytes; Kubo's own limit
_ROUNDS = 4  # send; send blocks it had only in its cache; send blocks that a collection removed
_LARGE = 64 << 20  # bytes that take longer to read again than a sample of them
_SAMPLE = 64  # blocks
_NO_MAXIMUM = 1 << 63  # a StorageMax from here on means no limit


def check_label(label: Label) -> None:
    """Raise UsageError for a label that is too long. Kubo counts bytes, and reports it only at the end."""
    size = len(label.encode())
    if size > _LONGEST_NAME:
        raise UsageError(
            f"the label {label[:40]!r}… has {size} bytes; a pin name may have {_LONGEST_NAME} bytes",
            hint="shorten the name of the model, or the id of the index",
        )


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publication to and repair of one node. `pin_seconds` is the time limit of one pin.

    With `nocopy`, the node keeps references to files on this machine, which it shares, in place of leaves.
    """

    rpc: KuboRpc
    prober: Prober
    replacer: BlockReplacer
    pin_seconds: int
    nocopy: bool = False

    def publish(self, dag: Dag, label: Label, progress: Progress, intact: Set[Cid] = frozenset()) -> Delivery:
        """Implement Target.publish. The blocks `intact` were just read from the node, and are not again."""
        check_label(label)
        check_not_stuck(self.rpc)
        found = self.prober.find_bad(dag.layout, progress, label.name, intact)
        self.warn_if_full(dag.layout, found, progress)
        return self.settle(dag, found, label, progress)

    def keep_part(self, dag: PartDag, label: Label, progress: Progress) -> Delivery:
        """Pin a part whose leaves were just sent: they are counted now, and read when the whole is published.

        Raises what `publish` does.
        """
        check_label(label)
        missing = BadBlocks(missing=frozenset(dag.layout.tree_positions()))
        return self.settle(dag, missing, label, progress)

    def replace_damaged(self, dag: Dag, title: str, progress: Progress) -> frozenset[int]:
        """Overwrite the blocks that are damaged on the node; return the positions of missing ones."""
        found = self.prober.find_bad(dag.layout, progress, title)
        if found.wrong:
            self.replacer.replace(dag, found.wrong, title, progress)
        return found.missing

    def settle(self, dag: Dag, found: BadBlocks, label: Label, progress: Progress) -> Delivery:
        """Send the bad blocks of `found`, prove the DAG complete, and pin it."""
        layout, title, sent = dag.layout, label.name, TransferStats()
        for number in range(_ROUNDS):
            if found.missing:
                missing = sorted(found.missing)
                sent += send(self.rpc, dag, missing, progress, title, nocopy=self.nocopy)
            if found.wrong:
                sent += self.replacer.replace(dag, found.wrong, title, progress)
            proven = number == 0 and sent.confirmed and self._still_there(layout, found, progress, title)
            if not proven and not self._complete(layout):
                found = self.prober.sizes(layout, range(len(layout)), progress, title)
                continue
            name = self.rpc.pin_name(layout.root)
            if name == label:
                return Delivery(State.HELD, sent.size, sent.blocks)
            if name is not None and not name.startswith(label.mark):
                return Delivery(State.HELD, sent.size, sent.blocks, foreign(name))
            if self.pin(layout.root, name, label) and self.rpc.pin_name(layout.root) == label:
                return Delivery(State.HELD, sent.size, sent.blocks)
            found = self.prober.sizes(layout, range(len(layout)), progress, title)
        raise UnexpectedResponseError(
            self.rpc.name,
            f"does not keep the blocks of {layout.root} that it is sent",
            hint="check that its disk is not full (`ipfs repo stat`) and that no program removes blocks",
        )

    def pin(self, root: Cid, former: str | None, label: Label) -> bool:
        """Pin `root`, which is complete, under `label`; return False when it has just lost a block.

        Kubo drops the pin that it renames before it walks. So when this fails, the pin is set again under its
        `former` name, as far as the node permits.
        """
        try:
            if self.rpc.pin_add(root, label, self.pin_seconds):
                return True
        except PeerError:
            self._restore(root, former)
            raise
        self._restore(root, former)
        return False

    def _restore(self, root: Cid, former: str | None) -> None:
        with suppress(PeerError):
            if former is not None and self.rpc.pin_name(root) is None:
                self.rpc.pin_add(root, former, self.pin_seconds)

    def warn_if_full(self, layout: DagLayout, found: BadBlocks, progress: Progress) -> None:
        """Note when the node will have more than its StorageMax, which it does not enforce."""
        coming = sum(layout.block_size(position) for position in found.missing)
        if not coming:
            return
        try:
            repo = self.rpc.repo_stat()
        except AccessDeniedError:
            return
        if repo.maximum < _NO_MAXIMUM and repo.size + coming > repo.maximum:
            progress.note(
                f"{self.rpc.name}: with {coming} more bytes, its {repo.size} exceed its StorageMax of "
                f"{repo.maximum}; the node does not enforce that limit, so watch its disk"
            )

    def _still_there(self, layout: DagLayout, sent: BadBlocks, progress: Progress, title: str) -> bool:
        """Return whether samples of the blocks that were just sent, and of the others, are on the node.

        False when few bytes were sent.
        """
        if sent.wrong or sum(map(layout.block_size, sent.missing)) < _LARGE:
            return False
        had = [position for position in range(len(layout)) if position not in sent.missing]
        samples = [part[:: max(1, len(part) // _SAMPLE)] for part in (sorted(sent.missing), had)]
        return not self.prober.sizes(layout, [*itertools.chain(*samples)], progress, title)

    def _complete(self, layout: DagLayout) -> bool:
        return self.rpc.dag_stat(layout.root, layout.size) == DagStat(len(layout), layout.size)


def foreign(name: str) -> str:
    """Describe a pin that is not ours."""
    described = f"named {name!r}" if name else "without a name"
    return f"held under a pin that is not ours ({described}), which is unchanged"


def repair(publisher: Publisher, dag: Dag, label: Label, progress: Progress) -> Delivery:
    """Implement Target.repair. Every block is looked for, and read."""
    check_label(label)
    check_not_stuck(publisher.rpc)
    return publisher.settle(dag, publisher.prober.find_bad(dag.layout, progress, label.name), label, progress)
