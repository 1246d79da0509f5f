"""Sources of blocks, and the pool of all sources of one fetch.

A source is named by the user, never by an index. It is not trusted: every block is verified here. A source
that can send several blocks in one response (`StreamingSource`) saves a request for each. The pool counts
what each source delivered and stops using a source that failed twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from reconciler.content.cid import RAW, Cid
from reconciler.errors import BlockUnavailableError, PeerError, ReconcilerError
from reconciler.net.errors import AccessDeniedError

SECTION_OVERHEAD = 64  #: upper bound of the bytes that a CAR adds to each block
MAX_CALLS = 8  #: maximum number of concurrent calls to one source
MAX_FAILURES = 2  #: failures after which a source is no longer used


# --- one source


@dataclass(frozen=True, slots=True)
class BlockRange:
    """The bytes `first` to `last` (inclusive) of the file `file`, and the blocks that contain them, in order.

    `sizes` are the bytes of the file in each block. With `whole`, `file` is a directory and the range is
    everything below it; up to `tree` bytes of inner blocks come in addition.
    """

    file: Cid
    first: int
    last: int
    blocks: tuple[Cid, ...]
    sizes: tuple[int, ...]
    whole: bool = False
    tree: int = 0

    @property
    def size(self) -> int:
        """The number of bytes of the file."""
        return self.last - self.first + 1

    @property
    def is_contiguous(self) -> bool:
        """Whether the blocks are exactly the bytes of the file, so that they can be cut from its content."""
        return not self.whole and all(cid.codec == RAW for cid in self.blocks)


Parts: TypeAlias = Sequence[bytes | memoryview]
"""A block as it was received, in consecutive parts; joining them would cost as much as writing them."""


class Source(Protocol):
    """A place that may have blocks. Methods are called from several threads.

    `width` is the number of concurrent streams that are worthwhile; it may change while the source is used.
    Up to MAX_CALLS single blocks are requested at once.
    """

    name: str

    @property
    def width(self) -> int:
        """The number of worthwhile streams, at least 1."""

    def read_block(self, cid: Cid, size: int | None) -> bytes:
        """Return the verified block; `size` is its length in bytes when it is known.

        Raises BlockUnavailableError when the source does not have it, BlockRefusedError or
        AccessDeniedError when it refuses, BadBlockError for wrong bytes, and PeerError for every other
        failure.
        """

    def close(self) -> None:
        """Release all resources, also during calls of other threads. May be called twice."""


@runtime_checkable
class StreamingSource(Protocol):
    """A source that sends all blocks of a range in one response."""

    def stream_blocks(
        self, requested: BlockRange
    ) -> AbstractContextManager[Iterator[tuple[Cid, Parts]] | None]:
        """Open the blocks of a range, unverified, in the order in which they arrive; inner blocks that lead
        to them may be among them.

        None when the source does not support it. Raises as `read_block` does, also during the iteration.
        """


class BadBlockError(PeerError):
    """A source sent bytes that are not those of the requested block."""

    def __init__(self, source: str, cid: Cid, what: str = "sent wrong bytes for") -> None:
        super().__init__(
            f"{source}: {what} block {cid}", hint="do not use this source, and notify its operator"
        )


class BlockRefusedError(BlockUnavailableError):
    """A source refuses to serve a block by its policy, whether it has the block or not."""


# --- all sources of one fetch


@dataclass(frozen=True, slots=True)
class SourceReport:
    """The counters of one source: the verified `bytes` and `blocks`, the number of `bad` blocks, and the
    reason why it was `dropped`, "" while it is in use.
    """

    name: str
    bytes: int
    blocks: int
    bad: int
    dropped: str


@dataclass(slots=True)
class TrackedSource:
    """A source and its counters. Changed under the lock of `SourcePool` only.

    `refused` is True if it refused a block, `lacked` if it answered that it has none.
    """

    source: Source
    bytes: int = 0
    blocks: int = 0
    bad: int = 0
    failures: int = 0
    reason: str = ""
    refused: bool = False
    lacked: bool = False

    @property
    def usable(self) -> bool:
        """Whether the source is still in use."""
        return self.failures < MAX_FAILURES


@dataclass
class SourcePool:
    """All sources of one fetch, in the order in which the user named them."""

    all: Sequence[TrackedSource]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count_block(self, peer: TrackedSource, size: int) -> None:
        """Count a verified block of `size` bytes from `peer`."""
        with self._lock:
            peer.bytes += size
            peer.blocks += 1

    def count_failure(self, peer: TrackedSource, error: ReconcilerError) -> None:
        """Count a failure of `peer`; the second one drops it."""
        with self._lock:
            peer.failures += 1
            peer.bad += isinstance(error, BadBlockError)
            peer.refused |= isinstance(error, AccessDeniedError)
            peer.reason = error.message

    def note_missing(self, peer: TrackedSource, error: ReconcilerError) -> None:
        """Record that `peer` lacks or refuses a block, which is not counted as a failure."""
        with self._lock:
            refuses = isinstance(error, BlockRefusedError)
            if not peer.reason or (refuses and not peer.refused):
                peer.reason = error.message
            peer.refused |= refuses
            peer.lacked |= not refuses

    def read_block(self, cid: Cid, size: int | None = None) -> bytes:
        """Return the verified block from the first source that delivers it.

        Raises BlockUnavailableError when none does.
        """
        for peer in self.all:
            while peer.usable:
                try:
                    data = peer.source.read_block(cid, size)
                except BlockUnavailableError as error:
                    self.note_missing(peer, error)
                    break
                except ReconcilerError as error:
                    self.count_failure(peer, error)
                else:
                    self.count_block(peer, len(data))
                    return data
        raise self.unavailable(f"block {cid}")

    def unavailable(self, what: str) -> BlockUnavailableError:
        """Return the error for `what`, which no source delivered; its hint lists the reason of each one."""
        reasons = "; ".join(dict.fromkeys(peer.reason for peer in self.all if peer.reason))
        return BlockUnavailableError(f"{_verdict(self.all)} {what}", hint=reasons or None)

    def report(self) -> tuple[SourceReport, ...]:
        """Return the counters of every source."""
        return tuple(
            SourceReport(
                peer.source.name, peer.bytes, peer.blocks, peer.bad, "" if peer.usable else peer.reason
            )
            for peer in self.all
        )

    def close(self) -> None:
        """Close every source. May be called twice."""
        for peer in self.all:
            peer.source.close()


def _verdict(peers: Sequence[TrackedSource]) -> str:
    """Describe what kept `peers` from delivering a block: lacking it, refusing it, or something else."""
    refusing = sum(peer.refused for peer in peers)
    if len(peers) == 1:
        if refusing:
            return "the source refuses"
        return "the source does not have" if peers[0].lacked else "the source did not deliver"
    every = f"none of {len(peers)} sources"
    if refusing:
        return f"all {refusing} sources refuse" if refusing == len(peers) else f"{every} has or serves"
    return f"{every} has" if all(peer.lacked for peer in peers) else f"{every} delivered"
