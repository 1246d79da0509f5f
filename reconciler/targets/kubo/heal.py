"""Replacing blocks whose bytes are wrong: the one damage that an import does not repair.

Kubo writes no block that it believes to have, so the bad one has to go first, and `block/rm` removes nothing
that is pinned. Where only pins of ours keep it, they are taken away for that moment, and come back as soon as
the DAG under them was proven complete. That is a moment without protection from garbage collection, so it
needs the user's word; blocks under other people's pins are left to the node's own `ipfs repo verify --drop`.
Which pins are ours, their names tell; behind a cluster, which has its own names for them, the cluster does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.errors import DataError, ReconcilerError, SafetyError
from reconciler.index.label import Label
from reconciler.net.errors import UnexpectedResponseError, sanitize
from reconciler.progress import Progress
from reconciler.targets.kubo.probe import Prober
from reconciler.targets.kubo.rpc import KuboRpc
from reconciler.targets.kubo.send import Sent, send

FLAG = "--allow-unpin-repair"
_AT_ONCE = 64  # blocks in one removal, which walks every pin of the node each time
_CHECK_FAILED = "pin check failed"
_VIA = re.compile(r"pinned via (\S+)")


Owns: TypeAlias = Callable[[Cid, str, str], bool]  #: a pin's root and name, our mark: whether it is ours


def named_so(root: Cid, name: str, mark: str) -> bool:  # noqa: ARG001  one way to tell; a cluster has another
    """Whether the name of a pin begins with our mark."""
    return name.startswith(mark)


@dataclass(frozen=True, slots=True)
class Healer:
    """Replaces damaged blocks. `may_unpin` is the user's word that our pins may be away for a moment."""

    rpc: KuboRpc
    prober: Prober
    may_unpin: bool
    pin_seconds: int
    owns: Owns = named_so

    def replace(self, dag: Dag, wrong: Collection[int], label: Label, progress: Progress) -> Sent:
        """Remove the blocks at the positions `wrong`, send them anew, and read them back.

        Raises SafetyError when pins of ours would have to go and may not, UnexpectedResponseError when pins
        of others keep the blocks, or the new bytes do not arrive.
        """
        positions = sorted(wrong)
        for position in positions:
            dag.read(position)  # no pin goes before the good bytes were seen
        away: dict[Cid, str] = {}
        try:
            self._remove(dag, positions, label, away)
            title = label.name
            self.prober.sizes(dag.layout, positions, progress, title)  # so that the node knows they are gone
            sent = send(self.rpc, dag, positions, progress, title)
            if self.prober.contents(dag.layout, positions, progress, title):
                raise UnexpectedResponseError(
                    self.rpc.name,
                    f"keeps damaged bytes for blocks of {dag.layout.root}",
                    hint="restart the node and run again; `ipfs repo verify` lists what is damaged",
                )
        finally:
            self._pin_again(away)
        return sent

    def _remove(self, dag: Dag, positions: Sequence[int], label: Label, away: dict[Cid, str]) -> None:
        """Remove the blocks; `away` collects the pins of ours that were taken away for it."""
        wanted = [dag.layout.cid(position) for position in positions]
        for start in range(0, len(wanted), _AT_ONCE):
            left = wanted[start : start + _AT_ONCE]
            while kept := self.rpc.block_rm(left):
                left = list(kept)
                keepers = {self._keeper(dag.layout.root, cid, why) for cid, why in kept.items()} - away.keys()
                if not keepers:
                    raise UnexpectedResponseError(
                        self.rpc.name,
                        f"keeps a damaged block: {sanitize(next(iter(kept.values())))}",
                        hint="other pins are damaged too: `ipfs repo verify` on the node lists what is",
                    )
                for keeper in keepers:
                    self._unpin(keeper, label, away, len(positions))

    def _keeper(self, root: Cid, cid: Cid, why: str) -> Cid:
        """The root whose pin keeps `cid`, from Kubo's words."""
        if _CHECK_FAILED in why:  # it walks all pins, and ours leads through the damaged node
            return root
        via = _VIA.search(why)
        if via is None:
            return cid  # pinned itself
        try:
            return cids.parse(via[1])
        except DataError:
            raise self._not_ours(via[1]) from None

    def _unpin(self, keeper: Cid, label: Label, away: dict[Cid, str], damaged: int) -> None:
        name = self.rpc.pin_name(keeper)
        if name is None or not self.owns(keeper, name, label.mark):
            raise self._not_ours(str(keeper))
        if not self.may_unpin:
            pin = repr(name) if name else keeper
            raise SafetyError(
                f"{self.rpc.name}: {damaged} damaged blocks can be replaced only while {pin} is unpinned",
                hint=f"run again with {FLAG}; its blocks are not protected from garbage collection meanwhile",
            )
        away[keeper] = name
        self.rpc.pin_rm(keeper)

    def _pin_again(self, away: dict[Cid, str]) -> None:
        """Pin what is complete; the rest is then absent, and published by the next run."""
        for root, name in away.items():
            try:
                if self.rpc.dag_stat(root, 1 << 40) is not None:
                    self.rpc.pin_add(root, name, self.pin_seconds)
            except ReconcilerError:
                continue

    def _not_ours(self, keeper: str) -> UnexpectedResponseError:
        return UnexpectedResponseError(
            self.rpc.name,
            f"a damaged block is kept by a pin that is not ours, on {keeper}",
            hint="on the node, `ipfs repo verify --drop` removes damaged blocks; then run again",
        )
