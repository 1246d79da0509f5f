"""The division of a transfer into runs of blocks. Pure.

A run is one of three: consecutive leaves of a file, any part of which a streaming source sends in one
response; a directory of small files, all of which it sends in one; or small files, whose blocks are requested
one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice

from reconciler.consume.selection import SelectedFiles, is_empty_leaf
from reconciler.consume.sources import SECTION_OVERHEAD, BlockRange
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.content.walk import NodeKind
from reconciler.download.work import RunForm, UnitRun

_STREAM_FROM = 4  # consecutive leaves from which one response is better than one for each
_WHOLE_DIRECTORY_FROM = 16  # small files from which a directory is requested as one
_WHOLE_DIRECTORY_SHARE = 0.9  # minimum share of the small files in the directory that are missing


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Missing blocks as units of a download, whose numbers are layout positions.

    `file` is the file or directory that one response is requested for, None when the blocks are requested one
    by one; `first` the offset in the file of the first block, `tree` the bytes of inner blocks that come with
    a directory.
    """

    units: UnitRun
    file: Cid | None = None
    first: int = 0
    tree: int = 0

    def expand(self, layout: DagLayout, start: int, stop: int) -> BlockRange:
        """Return the range of the blocks with the indices `start` to before `stop`, with their CIDs."""
        assert self.file is not None  # noqa: S101  it is requested in one response
        units, offsets = self.units.units[start:stop], self.units.offsets
        first = self.first + offsets[start] - offsets[0]
        return BlockRange(
            self.file,
            first,
            first + offsets[stop] - offsets[start] - 1,
            tuple(map(layout.cid, units)),
            tuple(offsets[at + 1] - offsets[at] for at in range(start, stop)),
            self.units.form is RunForm.WHOLE,
            self.tree,
        )


def make_runs(selected: SelectedFiles, missing: Container[int]) -> list[BlockRun]:
    """Divide the `missing` blocks (layout positions) into runs, each block once.

    Small files come first, so that the hasher, which reads the files in order, does not wait for one of them
    at the end.
    """
    return sorted(_runs(selected, missing), key=lambda run: run.units.form is RunForm.RANGE)


def _runs(selected: SelectedFiles, missing: Container[int]) -> Iterator[BlockRun]:
    layout = selected.map.layout
    seen = bytearray(len(layout))
    rest = array("Q")
    directories = _whole_directories(selected, missing)
    in_directory: dict[str, array[int]] = {path: array("Q") for path in set(directories.values())}
    for number, file in enumerate(selected.files):
        singles = in_directory[directories[number]] if number in directories else rest
        run: array[int] = array("Q")
        offsets: array[int] = array("Q")
        for leaf in selected.leaves(number):
            needed = leaf.position in missing and not seen[leaf.position]
            if run and not needed:
                yield from _finish_run(file.cid, run, offsets, singles)
                run, offsets = array("Q"), array("Q")
            if needed:
                seen[leaf.position] = 1
                run.append(leaf.position)
                if not offsets:
                    offsets.append(leaf.offset)
                offsets.append(leaf.offset + leaf.size)
        yield from _finish_run(file.cid, run, offsets, singles)
    if rest:
        yield BlockRun(UnitRun(rest, _offsets(layout, rest), RunForm.SINGLE))
    tree = sum(len(block) + SECTION_OVERHEAD for block in selected.map.tree.values())
    cids = {node.path: node.cid for node in selected.map.nodes if node.kind is NodeKind.DIRECTORY}
    for path, positions in in_directory.items():
        if positions:
            units = UnitRun(positions, _offsets(layout, positions), RunForm.WHOLE)
            yield BlockRun(units, cids[path] if path else layout.root, tree=tree)


def _offsets(layout: DagLayout, positions: array[int]) -> array[int]:
    return array("Q", accumulate(map(layout.block_size, positions), initial=0))


def _finish_run(file: Cid, run: array[int], offsets: array[int], singles: array[int]) -> Iterator[BlockRun]:
    """Yield the leaves in `run`, or add them to `singles` when they are too few for a stream."""
    if len(run) < _STREAM_FROM:
        singles += run
        return
    yield BlockRun(UnitRun(run, offsets, RunForm.RANGE), file, offsets[0])


def _whole_directories(selected: SelectedFiles, missing: Container[int]) -> dict[int, str]:
    """Return the path of the directory that each file is requested with, by the number of the file.

    That is the topmost directory that contains only small files, all of them selected, and nearly all of them
    missing. Files without such a directory have no entry.
    """
    if selected.is_file:
        return {}
    files: dict[str, int] = {}
    small: dict[str, int] = {}
    small_missing: dict[str, int] = {}
    for node in selected.map.nodes:
        if node.kind is NodeKind.FILE:
            for above in _directories(node.path):
                files[above] = files.get(above, 0) + 1
    for number, node in enumerate(selected.files):
        leaves = [leaf.position for leaf in islice(selected.leaves(number), _STREAM_FROM)]
        is_missing = any(position in missing for position in leaves)
        if len(leaves) < _STREAM_FROM:
            for above in _directories(node.path):
                small[above] = small.get(above, 0) + 1
                small_missing[above] = small_missing.get(above, 0) + (
                    is_missing or is_empty_leaf(selected, leaves[0])
                )
    whole = {
        path
        for path, count in small.items()
        if count == files[path] >= _WHOLE_DIRECTORY_FROM
        and small_missing[path] >= _WHOLE_DIRECTORY_SHARE * count
    }
    found: dict[int, str] = {}
    for number, node in enumerate(selected.files):
        path = next((above for above in _directories(node.path) if above in whole), None)
        if path is not None:
            found[number] = path
    return found


def _directories(path: str) -> Iterator[str]:
    """Iterate over the directories above a file, beginning with the root ("")."""
    yield ""
    at = path.find("/")
    while at != -1:
        yield path[:at]
        at = path.find("/", at + 1)
