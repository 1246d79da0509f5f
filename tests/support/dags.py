"""Small DAGs for tests: a nested dictionary as blocks, blocks as a CAR file, and a Dag in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from reconciler.content import varint
from reconciler.content.cid import RAW, Cid, hash_block
from reconciler.content.dag import DagLayout
from reconciler.content.profile import CHUNK_SIZE
from reconciler.content.unixfs_tree import DirectoryEntry, Tree, directory_tree, file_tree
from reconciler.content.walk import walk

#: a file, or a directory of sources
Source: TypeAlias = "bytes | Mapping[str, Source]"


@dataclass
class Blocks:
    """All blocks that were packed, leaves included."""

    blocks: dict[Cid, bytes] = field(default_factory=dict)

    def pack(self, source: Source) -> Tree:
        """Add the blocks of a file or directory according to the profile."""
        if isinstance(source, bytes):
            chunks = [source[i : i + CHUNK_SIZE] for i in range(0, len(source), CHUNK_SIZE)] or [b""]
            tree = file_tree(len(source), b"".join(hashlib.sha256(chunk).digest() for chunk in chunks))
            self.blocks.update({hash_block(RAW, chunk): chunk for chunk in chunks})
        else:
            packed = {name: self.pack(child) for name, child in source.items()}
            tree = directory_tree(
                DirectoryEntry(name, child.cid, child.tsize) for name, child in packed.items()
            )
        self.blocks.update(tree.blocks)
        return tree

    def read(self, cid: Cid) -> bytes:
        """Return one block."""
        return self.blocks[cid]


class MemoryDag:
    """A Dag over blocks in memory that counts its reads."""

    def __init__(self, root: Cid, blocks: Mapping[Cid, bytes]) -> None:
        self.blocks = dict(blocks)
        self.reads = 0
        raw_size = len(self.blocks[root])
        self.layout: DagLayout = walk(root, self.blocks.__getitem__, raw_size=raw_size).layout

    def read(self, position: int) -> bytes:
        self.reads += 1
        return self.blocks[self.layout.cid(position)]

    def close(self) -> None:
        pass


def memory_dag(source: Source) -> MemoryDag:
    """Return the DAG of a file or directory."""
    blocks = Blocks()
    return MemoryDag(blocks.pack(source).cid, blocks.blocks)


def car_bytes(root: Cid, blocks: Iterable[tuple[Cid, bytes]]) -> bytes:
    """Return a CARv1 with the blocks in the given order, written without the writer of the package."""
    header = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + bytes(root) + b"\x67version\x01"
    parts = [varint.encode(len(header)), header]
    for cid, data in blocks:
        parts += (varint.encode(36 + len(data)), bytes(cid), data)
    return b"".join(parts)


def write_car(path: Path, source: Source) -> Cid:
    """Write the DAG of `source` as a CAR with the blocks in the order of their digests; return the DAG."""
    blocks = Blocks()
    root = blocks.pack(source).cid
    ordered = sorted(blocks.blocks.items(), key=lambda item: item[0].digest)
    path.write_bytes(car_bytes(root, ordered))
    return root


def files_under(directory: Path) -> Source:
    """Read the files on disk as a source."""
    if directory.is_file():
        return directory.read_bytes()
    return {entry.name: files_under(entry) for entry in directory.iterdir()}
