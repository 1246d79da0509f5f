"""Several stores as one source of blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailableError
from reconciler.targets.store.stored_blocks import StoredBlocks

#: returns the verified bytes; raises MissingBlockError, or BlockUnavailableError for a damaged block
ReadBlock = Callable[[Cid], bytes]


class MissingBlockError(BlockUnavailableError):
    """The block is in none of the stores."""


class Stores:
    """The stores at `directories`, read in this order; a block damaged in one may be good in the next."""

    ahead = 0  #: blocks of one body that are worth reading ahead on any machine

    def __init__(self, directories: Sequence[Path]) -> None:
        self._stores = tuple(StoredBlocks(directory) for directory in directories)

    def refresh(self) -> None:
        """Reload what changed on disk, cheaply when nothing did. Raises PeerError."""
        for store in self._stores:
            store.refresh()

    def read(self, cid: Cid) -> bytes:
        """Return the verified block.

        Raises MissingBlockError, or BlockUnavailableError when every copy is damaged.
        """
        damage: BlockUnavailableError | None = None
        for store in self._stores:
            try:
                block = store.read(cid)
            except BlockUnavailableError as error:
                damage = error
                continue
            if block is not None:
                return block
        raise damage or MissingBlockError(f"no block {cid}")

    def verify(self, cid: Cid) -> None:
        """Read and hash a block, unless that was done recently; nothing when no store has it.

        Raises BlockUnavailableError when a copy is damaged.
        """
        for store in self._stores:
            if store.verify(cid):
                return

    def has(self, cid: Cid) -> bool:
        """Return whether a store has the block, without reading it."""
        return any(store.has(cid) for store in self._stores)

    @property
    def roots(self) -> int:
        """The number of pinned roots; one in two stores counts twice."""
        return sum(len(store.roots) for store in self._stores)

    @property
    def blocks(self) -> int:
        """The number of stored blocks; one in two CARs counts twice."""
        return sum(len(store) for store in self._stores)
