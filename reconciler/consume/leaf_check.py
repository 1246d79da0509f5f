"""Verification of files on the disk, leaf by leaf, against the tree of a version, on all cores."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from reconciler.consume.selection import SelectedFiles
from reconciler.content import profile, workers
from reconciler.content.cid import RAW
from reconciler.content.walk import DagMap, FileNode, Leaf
from reconciler.fs import read_at
from reconciler.progress import Task

_RUN = 4  # leaves that a thread checks at once


def count_present_blocks(selected: SelectedFiles, paths: Sequence[Path], task: Task) -> Mapping[int, int]:
    """Hash the files at `paths`; return how many spans of each block have its bytes, by layout position.

    Holes are not read.
    """
    found: dict[int, int] = {}
    for number, path in enumerate(paths):
        if not path.is_file() or path.is_symlink() or path.stat().st_size != selected.files[number].size:
            task.advance(selected.files[number].size)
            continue
        for leaf, good in check_leaves(selected.map, selected.files[number], path):
            if good:
                found[leaf.position] = found.get(leaf.position, 0) + 1
            task.advance(leaf.size)
    return found


def check_leaves(dag_map: DagMap, node: FileNode, path: Path) -> Iterator[tuple[Leaf, bool]]:
    """Iterate over the leaves of `node`, each with whether the file at `path`, of the same length, has its
    bytes.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def check(leaves: Sequence[Leaf]) -> list[tuple[Leaf, bool]]:
        return [(leaf, _is_intact(dag_map, leaf, descriptor)) for leaf in leaves]

    try:
        runs = _runs(dag_map.leaves(node))
        if node.size <= _RUN * profile.CHUNK_SIZE:
            checked: Iterable[list[tuple[Leaf, bool]]] = map(check, runs)
        else:
            threads = workers.threads_for(descriptor)
            checked = workers.overlapped(check, runs, threads=threads, window=2 * threads)
        for run in checked:
            yield from run
    finally:
        os.close(descriptor)


def _runs(leaves: Iterable[Leaf]) -> Iterator[list[Leaf]]:
    iterator = iter(leaves)
    while run := list(itertools.islice(iterator, _RUN)):
        yield run


def _is_intact(dag_map: DagMap, leaf: Leaf, descriptor: int) -> bool:
    cid = dag_map.layout.cid(leaf.position)
    if cid.codec != RAW:  # bytes within an inner block: not in our profile, and few
        return not leaf.size
    if _is_hole(descriptor, leaf.offset, leaf.size):
        return cid.digest == _digest_of_zeros(leaf.size)
    return cid.matches(read_at(descriptor, leaf.size, leaf.offset))


def _is_hole(descriptor: int, offset: int, size: int) -> bool:
    """Return whether the file system reports that no byte of a span was ever written."""
    if not size:
        return False
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) >= offset + size
    except OSError:
        return True  # ENXIO: the rest of the file is a hole


@lru_cache(maxsize=4)
def _digest_of_zeros(size: int) -> bytes:
    return hashlib.sha256(bytes(size)).digest()
