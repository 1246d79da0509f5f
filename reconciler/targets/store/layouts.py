"""The layout of a CAR in the store: from its block index, its inner nodes, or the lengths of its sections.

The block index is a cache with a checksum. The inner nodes are the proof: they hash to the root, and the
canonical order follows from them.
"""

from __future__ import annotations

import os
from pathlib import Path

from reconciler import fs
from reconciler.content import car, layout_file
from reconciler.content.bounds import MAX_BLOCK
from reconciler.content.cid import Cid
from reconciler.content.dag import HEADER_SIZE, DagLayout
from reconciler.errors import BlockUnavailableError, DataError
from reconciler.targets.healing import prove_layout


def load_index(path: Path, root: Cid) -> DagLayout:
    """Read the block index at `path`. Raises DataError when it is missing or invalid."""
    try:
        layout = layout_file.layout_from_bytes(path.read_bytes())
    except FileNotFoundError:
        raise DataError("block index is missing") from None
    except OSError as error:
        raise DataError(f"block index cannot be read: {error.strerror}") from None
    if layout.root != root:
        raise DataError("block index is of another root")
    return layout


def tree_layout(fd: int, layout: DagLayout) -> DagLayout:
    """Prove the layout of a CAR from its inner nodes, read at the offsets that `layout` gives.

    Raises DataError when `layout` does not contain an inner node, BlockUnavailableError when one is damaged.
    """

    def read(cid: Cid) -> bytes:
        position = layout.find(cid)
        if position is None:
            raise DataError(f"block index has no block {cid}")
        return read_block(fd, layout.data_start(position), cid, layout.block_size(position))

    return prove_layout(layout.root, read)


def layout_of_car(fd: int, root: Cid) -> DagLayout:
    """Prove the layout of a CAR without its index; find the inner nodes by the lengths of the sections.

    Raises BlockUnavailableError when an inner node is damaged or missing. Reads no leaf, except a raw root.
    """
    blocks = SectionBlocks(os.dup(fd))
    try:
        return prove_layout(root, blocks.read_block)
    finally:
        blocks.close()


def same_layout(one: DagLayout, other: DagLayout) -> bool:
    """Return whether both have the same blocks in the same order."""
    return layout_file.layout_to_bytes(one) == layout_file.layout_to_bytes(other)


class SectionBlocks:
    """The blocks of a CAR without its index, located by the length prefixes of its sections. It owns `fd`.

    Blocks after a damaged prefix are missing. A block is read only when it is requested.
    """

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self._places: dict[Cid, tuple[int, int]] = {}
        offset = HEADER_SIZE
        while prefix := fs.read_at(fd, car.MAX_SECTION_PREFIX, offset):
            try:
                cid, start, size = car.decode_section_prefix(prefix)
            except DataError:
                break
            if size > MAX_BLOCK:
                break
            self._places.setdefault(cid, (offset + start, size))
            offset += start + size

    def read_block(self, cid: Cid) -> bytes:
        """Read and verify the block `cid`. Raises BlockUnavailableError."""
        if self._fd is None:
            raise ValueError("read from closed blocks")
        if cid not in self._places:
            raise BlockUnavailableError(f"block {cid} is missing in the store")
        offset, size = self._places[cid]
        return read_block(self._fd, offset, cid, size)

    def close(self) -> None:
        """Close the file. May be called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def read_block(fd: int, offset: int, cid: Cid, size: int) -> bytes:
    """Read and verify the block `cid` of `size` bytes at `offset`. Raises BlockUnavailableError."""
    try:
        data = fs.read_at(fd, size, offset)
    except OSError as error:
        raise BlockUnavailableError(f"block {cid} cannot be read from the store: {error.strerror}") from None
    if len(data) != size or not cid.matches(data):
        raise BlockUnavailableError(f"block {cid} is damaged in the store")
    return data
