"""Several stores as one source of blocks.

What one client, and all of them together, may cost this machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailableError
from reconciler.gateway.paths import MissingPathError
from reconciler.gateway.request import RequestRefusedError
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
        """The verified block.

        Raises MissingPathError, or BlockUnavailableError when every copy is damaged.
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
        raise damage or MissingPathError(f"no block {cid}")

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


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """Bounds of a running gateway.

    A body in work holds two blocks of at most 2 MiB, one that waits for a slow client a single one.
    """

    requests: int = 512  #: answered at once; more get 503
    requests_a_client: int = 256  #: of one address; more get 429
    bodies: int = 8  #: in work at once; more wait for their turn
    head_seconds: float = 20.0  #: in which a client must have sent the head of a request, or it is dropped
    stall_seconds: float = 60.0  #: in which a client must take a piece, or it is dropped


class Admission:
    """Counts requests under way; used from one event loop."""

    def __init__(self, limits: ServeLimits) -> None:
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self.active = 0

    @contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """Hold a place while the request is answered. Raises RequestRefusedError (429, 503)."""
        if self.active >= self._limits.requests:
            raise RequestRefusedError(503, "too many requests at once", {"Retry-After": "2"})
        if self._clients[client] >= self._limits.requests_a_client:
            raise RequestRefusedError(
                429, "too many requests at once from this address", {"Retry-After": "2"}
            )
        self.active += 1
        self._clients[client] += 1
        try:
            yield
        finally:
            self.active -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
