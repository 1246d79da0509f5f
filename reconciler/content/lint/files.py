"""The files of a release as the examination sees them: those of a scanned directory, or of a DAG."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from reconciler.content import source_file
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import Dag
from reconciler.content.lint.finding import ReadAt
from reconciler.content.scan import SourceFile, SourceListing
from reconciler.content.walk import DagMap, FileNode, NodeKind, leaf_bytes, walk
from reconciler.errors import BlockUnavailableError
from reconciler.fs import read_at

_MAX_NOTES = 10_000  #: entries of a hidden download directory that are listed
_DOWNLOADS = ("huggingface/download", "modelscope")


@dataclass(frozen=True, slots=True)
class LintFile:
    """One file of a release; `open` gives access to its bytes while its context is open."""

    path: str
    size: int
    open: Callable[[], AbstractContextManager[ReadAt]]


@dataclass(frozen=True, slots=True)
class LintSubject:
    """Everything that is examined.

    `directories` are all below the root. `unfinished` are paths of unfinished downloads beside the files of
    the release, such as among the hidden entries.
    """

    files: tuple[LintFile, ...]
    directories: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()


def listing_subject(listing: SourceListing) -> LintSubject:
    """Return the files of a scanned directory. Reading one raises as `source_file.opened` does."""
    files = tuple(
        LintFile(file.path, file.stamp.size, partial(_open_source, listing, file)) for file in listing.files
    )
    return LintSubject(files, listing.directories, tuple(_unfinished(listing)))


def dag_subject(dag: Dag) -> LintSubject:
    """Return the files of a DAG. Reads its inner nodes; raises DataError, and what `dag.read` raises."""

    def read_node(cid: Cid) -> bytes:
        position = dag.layout.find(cid)
        if position is None:
            raise BlockUnavailableError(f"block {cid} is not in {dag.layout.root}")
        return dag.read(position)

    root = dag.layout.root
    raw_size = dag.layout.block_size(0) if root.codec == RAW else None
    dag_map = walk(root, read_node, raw_size=raw_size)
    files = tuple(
        LintFile(node.path, node.size, partial(_open_node, dag, dag_map, node))
        for node in dag_map.nodes
        if node.kind is NodeKind.FILE
    )
    directories = tuple(node.path for node in dag_map.nodes if node.kind is NodeKind.DIRECTORY)
    return LintSubject(files, directories)


@contextmanager
def _open_source(listing: SourceListing, file: SourceFile) -> Iterator[ReadAt]:
    if listing.read_span is not None:
        remote = listing.read_span
        yield lambda size, offset: remote(file, max(0, min(size, file.stamp.size - offset)), offset)
        return
    with source_file.opened(listing, file) as descriptor:
        yield partial(read_at, descriptor)


def _open_node(dag: Dag, dag_map: DagMap, node: FileNode) -> AbstractContextManager[ReadAt]:
    def read(size: int, offset: int) -> bytes:
        parts = []
        end = min(offset + size, node.size)
        for leaf in dag_map.leaves(node):
            if leaf.offset >= end:
                break
            if leaf.offset + leaf.size > offset:
                block = leaf_bytes(dag.layout, leaf.position, dag.read(leaf.position))
                parts.append(block[max(0, offset - leaf.offset) : end - leaf.offset])
        return b"".join(parts)

    return nullcontext(read)


def _unfinished(listing: SourceListing) -> Iterator[str]:
    """Yield the unfinished downloads that tools keep beside the files of the release."""
    if any(file.blob is not None for file in listing.files):  # a snapshot of a Hugging Face cache
        yield from _files_below(listing, "../../blobs", ".incomplete")
    for hidden in listing.hidden:
        name = hidden.rpartition("/")[2]
        if name == "._____temp":
            yield from _files_below(listing, hidden, "")
        elif name == ".cache":
            for place in _DOWNLOADS:
                yield from _files_below(listing, f"{hidden}/{place}", ".incomplete")


def _files_below(listing: SourceListing, directory: str, suffix: str) -> Iterator[str]:
    """Yield the files below `directory` that end in `suffix`, following no link."""
    top = listing.root
    for part in directory.split("/"):
        top /= part
        if top.is_symlink():
            return
    seen = 0
    for place, _, names in os.walk(top, followlinks=False):
        for name in sorted(names):
            seen += 1
            if seen > _MAX_NOTES:
                return
            if name.endswith(suffix):
                yield os.fsencode(os.path.relpath(os.path.join(place, name), listing.root)).decode(  # noqa: PTH118
                    errors="replace"
                )
