"""What each source is worth: a source that fails twice is not asked again, and what it did is told."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.consume.sources import BadBlockError, Source
from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailableError, ReconcilerError

STRIKES = 2


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What came from one source. `bytes` are those of verified blocks; `dropped` says why it was given up."""

    name: str
    bytes: int
    blocks: int
    bad: int
    dropped: str


@dataclass(slots=True)
class TrackedSource:
    """One source and its record. Changed under the lock of `SourcePool` only."""

    source: Source
    bytes: int = 0
    blocks: int = 0
    bad: int = 0
    strikes: int = 0
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether it is still asked."""
        return self.strikes < STRIKES


@dataclass
class SourcePool:
    """All sources of one fetch, in the user's order."""

    all: Sequence[TrackedSource]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def alive(self) -> list[TrackedSource]:
        """Those that are still asked."""
        return [peer for peer in self.all if peer.alive]

    def credit(self, peer: TrackedSource, size: int) -> None:
        """A verified block of `size` bytes came from `peer`."""
        with self._lock:
            peer.bytes += size
            peer.blocks += 1

    def strike(self, peer: TrackedSource, error: ReconcilerError) -> None:
        """`peer` failed; at the second time it is dropped."""
        with self._lock:
            peer.strikes += 1
            peer.bad += isinstance(error, BadBlockError)
            peer.reason = error.message

    def note_missing(self, peer: TrackedSource, error: ReconcilerError) -> None:
        """`peer` does not have something; that is no fault."""
        with self._lock:
            peer.reason = peer.reason or error.message

    def read_block(self, cid: Cid, size: int | None = None) -> bytes:
        """The verified block from the first source that gives it.

        Raises BlockUnavailableError when none does.
        """
        for peer in self.all:
            while peer.alive:
                try:
                    data = peer.source.read_block(cid, size)
                except BlockUnavailableError as error:
                    self.note_missing(peer, error)
                    break
                except ReconcilerError as error:
                    self.strike(peer, error)
                else:
                    self.credit(peer, len(data))
                    return data
        raise self.unavailable(f"block {cid}")

    def unavailable(self, what: str) -> BlockUnavailableError:
        """The error when no source has `what`, with what each of them did."""
        reasons = "; ".join(dict.fromkeys(peer.reason for peer in self.all if peer.reason))
        sources = "the source does not give" if len(self.all) == 1 else f"none of {len(self.all)} sources has"
        return BlockUnavailableError(f"{sources} {what}", hint=reasons or None)

    def report(self) -> tuple[SourceReport, ...]:
        """What came from where."""
        return tuple(
            SourceReport(
                peer.source.name, peer.bytes, peer.blocks, peer.bad, "" if peer.alive else peer.reason
            )
            for peer in self.all
        )

    def close(self) -> None:
        """Close every source. May be called twice."""
        for peer in self.all:
            peer.source.close()
