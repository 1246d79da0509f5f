"""Replacement of blocks whose bytes are wrong: the one damage that an import does not repair.

Kubo does not write a block that it has already, so the bad one must be removed first, and `block/rm` removes
nothing that is pinned. Where only pins of ours keep the block, they are removed, and restored as soon as the
DAG under them was proven complete. In between nothing protects the DAG from garbage collection, so this
requires permission by a flag. Blocks under pins of others are left to `ipfs repo verify --drop` on the node.
The name of a pin shows whether it is ours; behind a cluster, which gives pins names of its own, the cluster
shows it.
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
from reconciler.net.errors import AccessDeniedError, UnexpectedResponseError, sanitize
from reconciler.progress import Progress
from reconciler.targets.kubo.probe import Prober
from reconciler.targets.kubo.rpc import KuboRpc
from reconciler.targets.kubo.send import TransferStats, send

FLAG = "--allow-unpin-repair"
_BATCH = 64  # blocks in one removal; the node walks all its pins for each removal
_CHECK_FAILED = "pin check failed"
_VIA = re.compile(r"pinned via (\S+)")


#: decides from the root and the name of a pin, and our mark, whether the pin is ours
Owns: TypeAlias = Callable[[Cid, str, str], bool]


def has_mark(root: Cid, name: str, mark: str) -> bool:  # noqa: ARG001  the root matters behind a cluster
    """Return whether the name of a pin begins with our mark."""
    return name.startswith(mark)


@dataclass(frozen=True, slots=True)
class BlockReplacer:
    """The replacement of damaged blocks. `may_unpin` permits removing our pins for a moment."""

    rpc: KuboRpc
    prober: Prober
    may_unpin: bool
    pin_seconds: int
    owns: Owns = has_mark

    def replace(self, dag: Dag, wrong: Collection[int], label: Label, progress: Progress) -> TransferStats:
        """Remove the blocks at the positions `wrong`, send them again, and read them back.

        Raises SafetyError when this requires removing pins of ours without permission,
        UnexpectedResponseError when pins of others keep the blocks or the new bytes do not arrive.
        """
        positions = sorted(wrong)
        for position in positions:
            dag.read(position)  # no pin is removed before the good bytes were read
        unpinned: dict[Cid, str] = {}
        try:
            self._remove(dag, positions, label, unpinned)
            title = label.name
            self.prober.sizes(dag.layout, positions, progress, title)  # clears stale cache entries
            sent = send(self.rpc, dag, positions, progress, title)
            if self.prober.contents(dag.layout, positions, progress, title):
                raise UnexpectedResponseError(
                    self.rpc.name,
                    f"still has damaged bytes for blocks of {dag.layout.root}",
                    hint="restart the node and run again; `ipfs repo verify` lists what is damaged",
                )
        finally:
            self._restore_pins(unpinned)
        return sent

    def _remove(self, dag: Dag, positions: Sequence[int], label: Label, unpinned: dict[Cid, str]) -> None:
        """Remove the blocks; add the pins of ours that had to be removed to `unpinned`."""
        wanted = [dag.layout.cid(position) for position in positions]
        repo_size = self._repo_size()
        for start in range(0, len(wanted), _BATCH):
            left = wanted[start : start + _BATCH]
            while kept := self.rpc.block_rm(left, repo_size):
                left = list(kept)
                keepers = {
                    self._keeper(dag.layout.root, cid, why) for cid, why in kept.items()
                } - unpinned.keys()
                if not keepers:
                    raise UnexpectedResponseError(
                        self.rpc.name,
                        f"does not remove a damaged block: {sanitize(next(iter(kept.values())))}",
                        hint="run `ipfs repo verify` on the node: it also lists damaged blocks of other pins",
                    )
                for keeper in keepers:
                    self._unpin(keeper, label, unpinned, len(positions))

    def _keeper(self, root: Cid, cid: Cid, why: str) -> Cid:
        """Return the root whose pin keeps `cid`, parsed from the reason that Kubo gives."""
        if _CHECK_FAILED in why:  # it walks all pins, and ours contains the damaged inner node
            return root
        via = _VIA.search(why)
        if via is None:
            return cid  # pinned itself
        try:
            return cids.parse(via[1])
        except DataError:
            raise self._not_ours(via[1]) from None

    def _unpin(self, keeper: Cid, label: Label, unpinned: dict[Cid, str], damaged: int) -> None:
        name = self.rpc.pin_name(keeper)
        if name is None or not self.owns(keeper, name, label.mark):
            raise self._not_ours(str(keeper))
        if not self.may_unpin:
            pin = repr(name) if name else keeper
            raise SafetyError(
                f"{self.rpc.name}: {damaged} damaged blocks can be replaced only while {pin} is unpinned",
                hint=f"run again with {FLAG}; its blocks are not protected from garbage collection meanwhile",
            )
        unpinned[keeper] = name
        self.rpc.pin_rm(keeper)

    def _restore_pins(self, unpinned: dict[Cid, str]) -> None:
        """Pin the roots that are complete; the next run finds the others absent and publishes them."""
        for root, name in unpinned.items():
            try:
                if self.rpc.dag_stat(root, 1 << 40) is not None:
                    self.rpc.pin_add(root, name, self.pin_seconds)
            except ReconcilerError:
                continue

    def _repo_size(self) -> int:
        """Return the bytes in the repository; 0 when the node does not permit the question."""
        try:
            return self.rpc.repo_stat().size
        except AccessDeniedError:
            return 0

    def _not_ours(self, keeper: str) -> UnexpectedResponseError:
        return UnexpectedResponseError(
            self.rpc.name,
            f"a pin that is not ours, on {keeper}, keeps a damaged block",
            hint="on the node, `ipfs repo verify --drop` removes damaged blocks; then run again",
        )
