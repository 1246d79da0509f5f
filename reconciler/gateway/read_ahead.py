"""Hashing of the leaves that a body will need next, on cores that are idle.

A body reads and sends one block after the other, so that it keeps no leaf in memory while its client is slow.
The first time, each must be hashed, which is slower than a fast network. So when a body reads an inner node,
its leaves are noted in their order; when it reads one of them, the next ones are hashed by other threads.
What they read stays in the page cache, and the store knows that it is verified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Semaphore

from reconciler.content import workers
from reconciler.content.cid import RAW, Cid
from reconciler.errors import ReconcilerError
from reconciler.gateway.stores import ReadBlock
from reconciler.gateway.written_cid import written_links

_FROM = 3  # cores; on fewer, sending keeps the others busy
_DEPTH = 8  # leaves ahead of one body at most


class AheadHasher:
    """The threads that hash ahead, for all bodies; `verify` hashes a block unless that was done recently."""

    def __init__(self, verify: Callable[[Cid], None], cores: int) -> None:
        self.depth = min(_DEPTH, cores - 1) if cores >= _FROM else 0
        self._verify = verify
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="gateway-ahead") if self.depth else None
        self._free = Semaphore(2 * cores)

    def submit(self, cid: Cid) -> None:
        """Hash a block soon, unless the threads have enough to do."""
        if self._pool is not None and self._free.acquire(blocking=False):
            self._pool.submit(self._run, cid)

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, cid: Cid) -> None:
        try:
            with suppress(ReconcilerError):  # the body finds it as well, and reports it
                self._verify(cid)
        finally:
            self._free.release()


def make_hasher(verify: Callable[[Cid], None], ahead: int = 0) -> AheadHasher:
    """Return a hasher for the cores of this process, with `ahead` threads where waiting is the work."""
    return AheadHasher(verify, max(workers.cores(), ahead + 1 if ahead else 0))


def reading_ahead(read: ReadBlock, hasher: AheadHasher) -> ReadBlock:
    """Return a `read` for one body, whose next leaves `hasher` hashes."""
    return _AheadReader(read, hasher) if hasher.depth else read


class _AheadReader:
    """The blocks of one body. Used by one thread at a time."""

    def __init__(self, read: ReadBlock, hasher: AheadHasher) -> None:
        self._read = read
        self._hasher = hasher
        self._leaves: Sequence[Cid] = ()  # of the inner node that was read last
        self._at = 0  # in them: the leaf that is probably read next
        self._submitted = 0  # in them: the first leaf that was not submitted

    def __call__(self, cid: Cid) -> bytes:
        """Read a block, and have the leaves after it hashed."""
        if cid.codec == RAW:
            self._advance(cid)
            return self._read(cid)
        block = self._read(cid)
        leaves = [link.cid for link, _ in written_links(block) if link.cid.codec == RAW]
        if leaves:
            self._leaves, self._at, self._submitted = leaves, 0, 0
        return block

    def _advance(self, cid: Cid) -> None:
        if self._at < len(self._leaves) and self._leaves[self._at] != cid and self._submitted == 0:
            with suppress(ValueError):  # a body of a range begins somewhere
                self._at = self._leaves.index(cid)
        self._at += 1
        self._submitted = max(self._submitted, self._at)
        stop = min(self._at + self._hasher.depth, len(self._leaves))
        for following in range(self._submitted, stop):
            self._hasher.submit(self._leaves[following])
        self._submitted = max(self._submitted, stop)
