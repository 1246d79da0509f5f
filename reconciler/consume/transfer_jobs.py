"""The division of a transfer into jobs. Pure.

A job is one of three: a run of consecutive leaves of a file, or a directory of small files, both of which a
streaming source sends in one response; or a batch of small files, whose blocks are requested one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from reconciler.consume.selection import SelectedFiles, is_empty_leaf
from reconciler.consume.sources import SECTION_OVERHEAD, BlockRange
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.content.walk import NodeKind

SHORTEST_RUN = 32  #: minimum limit of leaves in a run; some gateways read beyond the end of every range
_STREAM_FROM = 4  # consecutive leaves from which one response is better than one for each
_WHOLE_DIRECTORY_FROM = 16  # small files from which a directory is requested as one
_WHOLE_DIRECTORY_SHARE = 0.9  # minimum share of the small files in the directory that are missing


@dataclass(frozen=True, slots=True)
class CompactRange:
    """A BlockRange whose blocks are layout positions, which need less memory than CIDs in a large DAG."""

    file: Cid
    first: int
    last: int
    positions: array[int]
    sizes: array[int]
    whole: bool = False
    tree: int = 0

    def expand(self, layout: DagLayout) -> BlockRange:
        """Return the range with the CIDs of its blocks."""
        blocks = tuple(map(layout.cid, self.positions))
        return BlockRange(self.file, self.first, self.last, blocks, tuple(self.sizes), self.whole, self.tree)


@dataclass(slots=True, eq=False)
class Job:
    """Blocks to fetch, by layout position.

    `run` is the range that contains all of them; None when they are requested one by one, and after the
    range was requested once. `tried` are the numbers of the sources that lack some of the blocks, `running`
    of those that work on the job, `since` is the time at which the last one began.
    """

    positions: Sequence[int]
    run: CompactRange | None
    tried: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    since: float = 0.0

    def split(self) -> list[Job]:
        """Return the same blocks in batches without a run, which several calls can share."""
        starts = range(0, len(self.positions), SHORTEST_RUN)
        return [Job(self.positions[at : at + SHORTEST_RUN], None, set(self.tried)) for at in starts]


def make_jobs(selected: SelectedFiles, missing: Mapping[int, int], longest: int) -> list[Job]:
    """Divide the `missing` blocks (by layout position) into jobs, each block once; a run has at most
    `longest` leaves.

    Small files come first, so that the hasher, which reads the files in order, does not wait for one of them
    at the end.
    """
    found = _jobs(selected, missing, longest)
    return sorted(found, key=lambda job: job.run is not None and not job.run.whole)


def _jobs(selected: SelectedFiles, missing: Mapping[int, int], longest: int) -> Iterator[Job]:
    layout = selected.map.layout
    seen: set[int] = set()
    batch: list[int] = []
    directories = _whole_directories(selected, missing)
    in_directory: dict[str, list[int]] = {path: [] for path in set(directories.values())}
    for number, file in enumerate(selected.files):
        rest = in_directory[directories[number]] if number in directories else batch
        run: list[tuple[int, int, int]] = []  # position, offset, size
        for leaf in selected.leaves(number):
            needed = leaf.position in missing and leaf.position not in seen
            if run and (not needed or len(run) == longest):
                yield from _finish_run(file.cid, run, rest)
                run = []
            if needed:
                seen.add(leaf.position)
                run.append((leaf.position, leaf.offset, leaf.size))
        yield from _finish_run(file.cid, run, rest)
        if len(batch) >= SHORTEST_RUN:
            yield Job(batch, None)
            batch = []
    if batch:
        yield Job(batch, None)
    tree = sum(len(block) + SECTION_OVERHEAD for block in selected.map.tree.values())
    cids = {node.path: node.cid for node in selected.map.nodes if node.kind is NodeKind.DIRECTORY}
    for path, positions in in_directory.items():
        if positions:
            every, sizes = array("Q", positions), array("Q", map(layout.block_size, positions))
            directory = cids[path] if path else layout.root
            yield Job(every, CompactRange(directory, 0, sum(sizes) - 1, every, sizes, whole=True, tree=tree))


def _finish_run(file: Cid, run: list[tuple[int, int, int]], rest: list[int]) -> Iterator[Job]:
    """Yield a job for the leaves in `run`, or add them to `rest` when they are too few for a stream."""
    positions = array("Q", (position for position, _, _ in run))
    if len(run) < _STREAM_FROM:
        rest += positions
        return
    sizes = array("Q", (size for _, _, size in run))
    first, last = run[0][1], run[-1][1] + run[-1][2] - 1
    yield Job(positions, CompactRange(file, first, last, positions, sizes))


def _whole_directories(selected: SelectedFiles, missing: Mapping[int, int]) -> dict[int, str]:
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
