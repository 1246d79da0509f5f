"""A DAG as a table of blocks, and the interface through which its bytes are read.

`DagLayout` lists every unique block of one root in CAR order with its size, and so determines all offsets in
the CAR before any block is read. `Dag` adds where the bytes come from: a directory, a CAR file, or a remote
target. Publishing, repairing, exporting and healing work on any `Dag`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from reconciler.content import varint, workers
from reconciler.content.cid import BINARY_SIZE, DAG_PB, RAW, Cid
from reconciler.progress import Task

_RUN = 16  # blocks that one thread verifies at once
HEADER_SIZE = 59  #: bytes of a CARv1 header with one CIDv1 root


@dataclass(frozen=True, slots=True)
class Block:
    """The CID and the length in bytes of one block."""

    cid: Cid
    size: int


class DagLayout:
    """The unique blocks of one root, in CAR order: DFS pre-order, links in link order, no duplicates.

    Filled by `add`, then only read. Takes a few hundred bytes of memory for each block.
    """

    def __init__(self, root: Cid) -> None:
        self.root = root
        self.size = 0  #: bytes of all blocks together
        self.car_size = HEADER_SIZE  #: bytes of the CARv1
        self._digests = bytearray()
        self._codecs = bytearray()
        self._sizes = array("Q")
        self._starts = array("Q")
        self._positions: dict[bytes, int] = {}

    def add(self, cid: Cid, size: int) -> bool:
        """Append a block; return False and change nothing when it is already present."""
        key = bytes((cid.codec,)) + cid.digest
        if key in self._positions:
            return False
        self._positions[key] = len(self._sizes)
        self._digests += cid.digest
        self._codecs.append(cid.codec)
        self._sizes.append(size)
        self._starts.append(self.car_size)
        self.size += size
        self.car_size += varint.size(BINARY_SIZE + size) + BINARY_SIZE + size
        return True

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, position: int) -> Block:
        return Block(self.cid(position), self._sizes[position])

    def __iter__(self) -> Iterator[Block]:
        return (self[position] for position in range(len(self)))

    def cid(self, position: int) -> Cid:
        """Return the CID of the block at `position`."""
        if position < 0:
            raise IndexError(position)
        return Cid(self._codecs[position], bytes(self._digests[32 * position : 32 * position + 32]))

    def block_size(self, position: int) -> int:
        """Return the length in bytes of the block at `position`."""
        return self._sizes[position]

    def find(self, cid: Cid) -> int | None:
        """Return the position of `cid`, or None when it is not part of this DAG."""
        return self._positions.get(bytes((cid.codec,)) + cid.digest)

    def is_leaf(self, position: int) -> bool:
        """Whether the block at `position` is a raw leaf."""
        return self._codecs[position] == RAW

    def tree_positions(self) -> list[int]:
        """Return the positions of the dag-pb blocks, in order."""
        return [position for position, codec in enumerate(self._codecs) if codec == DAG_PB]

    def section_start(self, position: int) -> int:
        """Return the offset in the CAR of the section of the block at `position`."""
        return self._starts[position]

    def data_start(self, position: int) -> int:
        """Return the offset in the CAR of the bytes of the block at `position`."""
        return self._starts[position] + varint.size(BINARY_SIZE + self._sizes[position]) + BINARY_SIZE

    def section_end(self, position: int) -> int:
        """Return the offset in the CAR after the block at `position`."""
        return self.data_start(position) + self._sizes[position]

    def section_at(self, offset: int) -> int:
        """Return the position of the section that covers CAR offset `offset` (>= HEADER_SIZE)."""
        return bisect_right(self._starts, offset) - 1


class Dag(Protocol):
    """One complete DAG whose blocks can be read; each is verified against its CID before it is returned.

    Blocks may be read repeatedly and from several threads. `close` releases files or connections.
    """

    @property
    def layout(self) -> DagLayout:
        """Every block with its size, in CAR order."""

    def read(self, position: int) -> bytes:
        """Return the verified bytes of the block at `position`.

        Raises SourceChangedError when a source file no longer contains these bytes (the message names the
        file), BlockUnavailableError when the block is missing or damaged, PeerError when a peer fails.
        """

    def close(self) -> None:
        """Release files and connections. May be called twice."""


def verify_blocks(dag: Dag, task: Task) -> None:
    """Read every block of `dag`, on all cores. Raises what `Dag.read` raises."""

    def verify(run: range) -> None:
        for position in run:
            task.advance(len(dag.read(position)))

    threads, total = workers.cores(), len(dag.layout)
    step = max(1, min(_RUN, total // (8 * threads)))
    runs = (range(first, min(first + step, total)) for first in range(0, total, step))
    workers.share(verify, runs, threads=threads)


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A file of a DAG on this machine: its absolute path, CID and bytes, and the positions of its leaves."""

    path: Path
    cid: Cid
    size: int
    leaves: tuple[int, ...]


@runtime_checkable
class HasDiskFiles(Protocol):
    """A Dag that may be made from files on this machine."""

    def disk_files(self) -> Iterator[DiskFile]:
        """Yield the files that are on this machine as they are in the DAG."""


@runtime_checkable
class ReadsUnverified(Protocol):
    """A Dag of local files that can leave the hashing of leaves to a receiver that hashes them anyway."""

    def read_unverified(self, position: int) -> bytes:
        """Return the bytes where the block at `position` should be, as many as it has, without hashing them.

        Only for a receiver that rejects a block whose bytes do not match its CID. Raises as Dag.read does.
        """

    def mark_verified(self, positions: Iterable[int]) -> None:
        """Note that a receiver hashed the blocks at `positions` and accepted all of them."""
