"""Replacement of blocks whose bytes are wrong: the one damage that an import alone does not repair.

Kubo overwrites the file of a block when it imports the block, unless its in-memory cache of present blocks
(`Datastore.BlockKeyCacheSize`, a 2Q cache of 65,536 entries by default) has an entry for it. Every read makes
such an entry, the read that found the damage too. So the cache is filled with other entries first: an import
of a CAR without blocks, whose header names CIDs that do not exist, looks each of them up, stores nothing and
pins nothing. Then the blocks are sent, and read back. A node with a Bloom filter in front of that cache, or
without Datastore.WriteThrough, keeps the damaged blocks; then only its administrator can drop them.

A reference to a file that was changed or is gone is not replaced by an import, but by `add` of the leaf: the
node then has a copy, which it reads first.

No block is removed, so no pin has to be, ours or not: a kill at any moment leaves each block damaged or
replaced. `block/rm` could not do this: it refuses a pinned block, and every block while any pin on the node
has a missing or damaged inner node.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import Dag
from reconciler.net.errors import UnexpectedResponseError
from reconciler.progress import Progress
from reconciler.targets.kubo.probe import Prober
from reconciler.targets.kubo.rpc import KuboRpc
from reconciler.targets.kubo.send import TransferStats, add_leaves, send

#: Attempts, each with the number of CIDs in one header and the number of headers. Each header is sent twice:
#: what a 2Q cache was asked for twice, soon enough, displaces what was read before. The first attempt is for
#: caches of the default size, the next two for smaller ones, the rest for larger ones, up to a million.
_ATTEMPTS = ((4096, 17), (256, 40), (16, 64), (4096, 68), (16384, 72))


@dataclass(frozen=True, slots=True)
class BlockReplacer:
    """The replacement of damaged blocks on one node."""

    rpc: KuboRpc
    prober: Prober

    def replace(self, dag: Dag, wrong: Collection[int], title: str, progress: Progress) -> TransferStats:
        """Overwrite the blocks of `dag` at the positions `wrong`, and read them back.

        Raises UnexpectedResponseError when the node keeps the wrong bytes, and what `send` raises.
        """
        layout, left = dag.layout, sorted(wrong)
        sent = TransferStats()
        if lost := self.prober.lost_references(layout, left):
            sent = add_leaves(self.rpc, dag, lost, progress, title)
            left = self.prober.contents(layout, left, progress, title).positions
            if not left:
                return sent
        for number, (size, count) in enumerate(_ATTEMPTS):
            self._displace(size, count, progress, title)
            attempt = send(self.rpc, dag, left, progress, title)
            bad = self.prober.contents(layout, left, progress, title)
            if number == 0:
                sent += attempt
            if not bad:
                return sent
            left = bad.positions
        raise UnexpectedResponseError(
            self.rpc.name,
            f"keeps damaged bytes for {len(left)} blocks of {layout.root} when it is sent the right ones",
            hint="run `ipfs repo verify --drop` on the node, which removes damaged blocks; then run again;"
            " with WriteThrough false or a BloomFilterSize in its Datastore, it overwrites none itself",
        )

    def _displace(self, size: int, count: int, progress: Progress, title: str) -> None:
        """Look up `count` times `size` random CIDs, each twice."""
        with progress.task(f"{title}: displacing cached entries", size * count) as task:
            for _ in range(count):
                strangers = [Cid(RAW, os.urandom(32)) for _ in range(size)]
                self.rpc.look_up(strangers)
                self.rpc.look_up(strangers)
                task.advance(size)
