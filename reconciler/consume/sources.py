"""Sources of blocks, and the pool of all sources of one fetch.

A source is named by the user, never by an index. It is not trusted: every block is verified here. A source
that can send several blocks in one response (`StreamingSource`) saves a request for each. The pool counts
what each source delivered and stops using a source that failed twice in a row.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from reconciler.content.cid import RAW, Cid
from reconciler.download.source_state import MOST_FAILURES
from reconciler.errors import BlockUnavailableError, PeerError, ReconcilerError
from reconciler.net.errors import AccessDeniedError, RequestError, RetryLaterError
from reconciler.net.retry import NO_RETRY, RetryPolicy

SECTION_OVERHEAD = 64  #: upper bound of the bytes that a CAR adds to each block


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
    """A place that may have blocks. Methods are called from several threads."""

    name: str

    @property
    def width(self) -> int:
        """The most concurrent calls that are worthwhile, at least 1."""

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


@runtime_checkable
class MeteredSource(Protocol):
    """A source that reports bytes to `meter` as they arrive, in the thread that requested them."""

    meter: Callable[[int], None]


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

    `failures` are those in a row, `lies` those that count against it. `refused` is True if it refused a
    block, `lacked` if it answered that it has none. `latency` is the shortest time of a block in seconds.
    """

    source: Source
    bytes: int = 0
    blocks: int = 0
    bad: int = 0
    lies: int = 0
    failures: int = 0
    reason: str = ""
    refused: bool = False
    lacked: bool = False
    latency: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether the source is still in use."""
        return max(self.failures, self.lies) < MOST_FAILURES


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
        """Count a failure of `peer`; the second one in a row drops it, and so do wrong bytes at all."""
        with self._lock:
            lied = isinstance(error, BadBlockError)
            peer.bad += lied
            peer.lies += lied
            peer.failures += not lied
            peer.refused |= isinstance(error, AccessDeniedError)
            peer.reason = error.message

    def note_setback(
        self, peer: TrackedSource, error: ReconcilerError, *, lied: bool, given_up: bool
    ) -> None:
        """Record a failed request of a transfer, which decides itself when `peer` is `given_up`."""
        with self._lock:
            peer.bad += lied
            peer.refused |= isinstance(error, AccessDeniedError)
            if given_up or peer.usable:
                peer.reason = error.message
            if given_up:
                peer.failures = MOST_FAILURES

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
            attempt = 1
            while peer.usable:
                began = time.monotonic()
                try:
                    data = peer.source.read_block(cid, size)
                except BlockUnavailableError as error:
                    self.note_missing(peer, error)
                    break
                except ReconcilerError as error:
                    pause = _pause(peer.source, error, attempt)
                    if pause is None:
                        self.count_failure(peer, error)
                        attempt = 1
                    else:
                        time.sleep(pause)
                        attempt += 1
                else:
                    self.count_block(peer, len(data))
                    with self._lock:
                        peer.failures = 0
                        took = time.monotonic() - began
                        peer.latency = min(peer.latency or took, took)
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


def _pause(source: Source, error: ReconcilerError, attempt: int) -> float | None:
    """Return the seconds until the call that failed is repeated; None when it is not."""
    policy: RetryPolicy = getattr(source, "retry", NO_RETRY)
    if attempt >= policy.attempts or not (isinstance(error, RequestError) and error.may_retry):
        return None
    pause = policy.pause(attempt)
    if isinstance(error, RetryLaterError) and error.retry_after is not None:
        pause = max(pause, error.retry_after)
    return pause if pause <= policy.ceiling else None


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
