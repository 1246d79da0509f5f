"""Several stores as one source of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailable
from reconciler.gateway.paths import Missing
from reconciler.targets.store.stored_blocks import StoredBlocks


class Stores:
    """The stores at `directories`, asked in this order; a block damaged in one may be good in the next."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._stores = tuple(StoredBlocks(directory) for directory in directories)

    def refresh(self) -> None:
        """See what changed on disk; cheap when nothing did. Raises PeerError."""
        for store in self._stores:
            store.refresh()

    def read(self, cid: Cid) -> bytes:
        """The verified block. Raises Missing, or BlockUnavailable when every copy is damaged."""
        damage: BlockUnavailable | None = None
        for store in self._stores:
            try:
                block = store.read(cid)
            except BlockUnavailable as error:
                damage = error
                continue
            if block is not None:
                return block
        raise damage or Missing(f"no block {cid}")

    def has(self, cid: Cid) -> bool:
        """Whether some store has the block, without reading it."""
        return any(store.has(cid) for store in self._stores)

    @property
    def roots(self) -> int:
        """How many roots are vouched for; one in two stores counts twice."""
        return sum(len(store.roots) for store in self._stores)

    @property
    def blocks(self) -> int:
        """How many blocks are stored; one in two CARs counts twice."""
        return sum(len(store) for store in self._stores)
