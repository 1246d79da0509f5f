"""DAGs of all shapes that targets must support, with leaves of a few bytes, so that 1,025 of them are cheap.

The blocks are real UnixFS from our encoder, with smaller chunks than in the profile, which targets cannot
detect. Equal salts give equal DAGs; DAGs of different salts share no leaf.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.content import dagpb, unixfs
from reconciler.content.cid import DAG_PB, RAW, Cid, hash_block
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.unixfs_tree import DirectoryEntry, directory_tree
from reconciler.errors import BlockUnavailableError, SourceChangedError
from tests.support.dags import MemoryDag

MAX_LINKS = 1024


@dataclass
class Builder:
    """Pack files of many small leaves; `blocks` collects all blocks."""

    salt: str

    def __post_init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}

    def file(self, name: str, leaves: int, leaf_size: int = 64) -> DirectoryEntry:
        """Pack a file of `leaves` different leaves; a single leaf is a raw block."""
        level = [self._leaf(name, number, leaf_size) for number in range(leaves)]
        while len(level) > 1:
            level = [self._parent(level[i : i + MAX_LINKS]) for i in range(0, len(level), MAX_LINKS)]
        cid, tsize, _ = level[0]
        return DirectoryEntry(name, cid, tsize)

    def directory(self, name: str, entries: Sequence[DirectoryEntry]) -> DirectoryEntry:
        """Pack a directory of `entries`."""
        tree = directory_tree(entries)
        self.blocks.update(tree.blocks)
        return DirectoryEntry(name, tree.cid, tree.tsize)

    def dag(self, entry: DirectoryEntry) -> MemoryDag:
        """Return the DAG under `entry`."""
        return MemoryDag(entry.cid, self.blocks)

    def _leaf(self, name: str, number: int, size: int) -> tuple[Cid, int, int]:
        seed = hashlib.sha256(f"{self.salt}|{name}|{number}".encode()).digest()
        data = (seed * (size // len(seed) + 1))[:size]
        cid = hash_block(RAW, data)
        self.blocks[cid] = data
        return cid, size, size

    def _parent(self, children: list[tuple[Cid, int, int]]) -> tuple[Cid, int, int]:
        links = [dagpb.PbLink(b"", cid, tsize) for cid, tsize, _ in children]
        block = dagpb.encode(links, unixfs.file([size for _, _, size in children]))
        cid = hash_block(DAG_PB, block)
        self.blocks[cid] = block
        return cid, len(block) + sum(child[1] for child in children), sum(child[2] for child in children)


def empty_directory(salt: str) -> MemoryDag:
    build = Builder(salt)
    return build.dag(build.directory("", []))


def single_leaf(salt: str) -> MemoryDag:
    build = Builder(salt)
    return build.dag(build.file("only", 1, 500))


def large_file(salt: str) -> MemoryDag:
    """Return a file of 1,025 leaves: a root with two links, the second to an inner node with one leaf."""
    build = Builder(salt)
    return build.dag(build.file("large", 1025))


def bundle(salt: str) -> MemoryDag:
    """Return a directory with a file of several leaves, a copy of one, an empty file, and directories."""
    build = Builder(salt)
    weights, config = build.file("model.safetensors", 40, 1000), build.file("config.json", 1, 300)
    copy = DirectoryEntry("copy.json", config.cid, config.tsize)
    below = build.directory("tokenizer", [build.file("vocab.txt", 3), build.file("empty", 1, 0)])
    return build.dag(build.directory("", [weights, config, copy, below, build.directory("none", [])]))


def twins(salt: str) -> tuple[MemoryDag, MemoryDag]:
    """Return two bundles that share a large file."""
    build = Builder(salt)
    weights = build.file("model.safetensors", 30, 1000)
    return (
        build.dag(build.directory("", [weights, build.file("one.json", 1, 100)])),
        build.dag(build.directory("", [weights, build.file("other.json", 1, 100)])),
    )


SHAPES: dict[str, Callable[[str], MemoryDag]] = {
    "empty directory": empty_directory,
    "single raw leaf": single_leaf,
    "file of 1,025 leaves": large_file,
    "bundle": bundle,
}


class Failing:
    """A Dag that raises `error` after `after` reads."""

    def __init__(self, dag: Dag, after: int, error: Exception | None = None) -> None:
        self._dag, self._left = dag, after
        self._error = error or SourceChangedError("'model.safetensors' changed while it was read")

    @property
    def layout(self) -> DagLayout:
        return self._dag.layout

    def read(self, position: int) -> bytes:
        if self._left == 0:
            raise self._error
        self._left -= 1
        return self._dag.read(position)

    def close(self) -> None:
        self._dag.close()


class Without:
    """A Dag without the blocks at `positions`."""

    def __init__(self, dag: Dag, positions: Sequence[int]) -> None:
        self._dag, self._lost = dag, frozenset(positions)

    @property
    def layout(self) -> DagLayout:
        return self._dag.layout

    def read(self, position: int) -> bytes:
        if position in self._lost:
            raise BlockUnavailableError(f"block {self.layout.cid(position)} is lost")
        return self._dag.read(position)

    def close(self) -> None:
        self._dag.close()
