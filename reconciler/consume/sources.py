"""What can be asked for blocks. A source is named by the user, never by an index.

A source hands out blocks; whether they are the right ones is found out here and nowhere else believed. One
that sends several blocks at a time (`Streams`) saves a request for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from reconciler.content.cid import RAW, Cid
from reconciler.errors import PeerError

SECTION_OVERHEAD = 64  # bytes that a block costs in a CAR besides its own, or more
LANES = 8  # calls to one source at once, at most


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes `first` to `last` (both included) of the file `file`, and the blocks they are in, in order.

    `sizes` are the bytes of the file in each block. With `whole`, `file` is a directory, and its stretch all
    that is below it; at most `tree` bytes of other blocks come with that.
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
        """Bytes of the file."""
        return self.last - self.first + 1

    @property
    def plain(self) -> bool:
        """Whether the blocks are nothing but the file's own bytes, so that they can be cut out of it."""
        return not self.whole and all(cid.codec == RAW for cid in self.blocks)


Parts: TypeAlias = Sequence[bytes | memoryview]
"""A block as it came, one part behind the other; joining them costs as much as writing them."""


class Source(Protocol):
    """A place that may have blocks. Calls come from several threads.

    `width` is how many calls for much at once are worth making, and may change as a source shows what it can
    do. Up to LANES single blocks are asked for at once.
    """

    name: str

    @property
    def width(self) -> int:
        """At least 1."""

    def read_block(self, cid: Cid, size: int | None) -> bytes:
        """The verified block; `size` in bytes when it is known.

        Raises BlockUnavailable where it is not there, BadBlockError for wrong bytes, PeerError for everything
        else.
        """

    def close(self) -> None:
        """Release what is open, also under calls that are being made. May be called twice."""


@runtime_checkable
class Streams(Protocol):
    """A source that sends the blocks of a stretch of a file in one answer."""

    def stretch(self, wanted: Stretch) -> AbstractContextManager[Iterator[tuple[Cid, Parts]] | None]:
        """The blocks as they come, none of them verified yet, and others that lead to them.

        None where the source cannot do this. Raises as `read_block` does, also while it is read.
        """


class BadBlockError(PeerError):
    """A source sent bytes that are not those of the block that was asked for."""

    def __init__(self, source: str, cid: Cid, what: str = "sent wrong bytes for") -> None:
        super().__init__(f"{source}: {what} block {cid}", hint="leave this source out, and tell its owner")
