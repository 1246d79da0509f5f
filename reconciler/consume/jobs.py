"""The work of a transfer cut into jobs. Pure.

A job is a run of leaves of one file, or a directory of nothing but small files, either of which a source that
streams sends in one answer; or a handful of small files, whose blocks are asked for one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from reconciler.consume.sources import SECTION_OVERHEAD, Stretch
from reconciler.consume.wanted import WantedFiles, is_empty_leaf
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.content.walk import NodeKind

SHORTEST_RUN = 32  # leaves of a job at least; some gateways read beyond the end of every range
_WORTH_A_STREAM = 4  # leaves of a file from which on one answer is better than one for each
_WORTH_A_DIRECTORY = 16  # small files from which on a directory is asked for as one
_NEARLY = 0.9  # of the small files of a directory that have to be missing for that


@dataclass(frozen=True, slots=True)
class BlockRun:
    """A stretch with its blocks by layout position, since a large DAG has many of them."""

    file: Cid
    first: int
    last: int
    positions: array[int]
    sizes: array[int]
    whole: bool = False
    tree: int = 0

    def stretch(self, layout: DagLayout) -> Stretch:
        """What a source is asked for."""
        blocks = tuple(map(layout.cid, self.positions))
        return Stretch(self.file, self.first, self.last, blocks, tuple(self.sizes), self.whole, self.tree)


@dataclass(slots=True, eq=False)
class Job:
    """Blocks by layout position; `run` is how to ask for all of them at once, while that was not tried.

    `tried` are the numbers of the sources that lack some of it, `running` of those that are at it, `since`
    when the last one began.
    """

    positions: Sequence[int]
    run: BlockRun | None
    tried: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    since: float = 0.0

    def parts(self) -> list[Job]:
        """The same without a run, in handfuls that several calls at once can share."""
        starts = range(0, len(self.positions), SHORTEST_RUN)
        return [Job(self.positions[at : at + SHORTEST_RUN], None, set(self.tried)) for at in starts]


def cut_jobs(wanted: WantedFiles, missing: Mapping[int, int], longest: int) -> list[Job]:
    """All work, each block once; a run has at most `longest` leaves.

    Small files come first: who reads the files in their order is not to wait for one of them at the end.
    """
    return sorted(_jobs(wanted, missing, longest), key=lambda job: job.run is not None and not job.run.whole)


def _jobs(wanted: WantedFiles, missing: Mapping[int, int], longest: int) -> Iterator[Job]:
    layout = wanted.map.layout
    seen: set[int] = set()
    handful: list[int] = []
    directories = _small_directories(wanted, missing)
    together: dict[str, list[int]] = {path: [] for path in set(directories.values())}
    for number, file in enumerate(wanted.files):
        rest = together[directories[number]] if number in directories else handful
        run: list[tuple[int, int, int]] = []  # position, offset, size
        for leaf in wanted.leaves(number):
            needed = leaf.position in missing and leaf.position not in seen
            if run and (not needed or len(run) == longest):
                yield from _cut(file.cid, run, rest)
                run = []
            if needed:
                seen.add(leaf.position)
                run.append((leaf.position, leaf.offset, leaf.size))
        yield from _cut(file.cid, run, rest)
        if len(handful) >= SHORTEST_RUN:
            yield Job(handful, None)
            handful = []
    if handful:
        yield Job(handful, None)
    tree = sum(len(block) + SECTION_OVERHEAD for block in wanted.map.tree.values())
    cids = {node.path: node.cid for node in wanted.map.nodes if node.kind is NodeKind.DIRECTORY}
    for path, positions in together.items():
        if positions:
            every, sizes = array("Q", positions), array("Q", map(layout.block_size, positions))
            directory = cids[path] if path else layout.root
            yield Job(every, BlockRun(directory, 0, sum(sizes) - 1, every, sizes, whole=True, tree=tree))


def _cut(file: Cid, run: list[tuple[int, int, int]], rest: list[int]) -> Iterator[Job]:
    positions = array("Q", (position for position, _, _ in run))
    if len(run) < _WORTH_A_STREAM:
        rest += positions
        return
    sizes = array("Q", (size for _, _, size in run))
    first, last = run[0][1], run[-1][1] + run[-1][2] - 1
    yield Job(positions, BlockRun(file, first, last, positions, sizes))


def _small_directories(wanted: WantedFiles, missing: Mapping[int, int]) -> dict[int, str]:
    """For the number of a file the path of the directory with which it comes, if any: the topmost one that
    has nothing but small files, all of them wanted, and nearly all of them missing.
    """
    if wanted.is_file:
        return {}
    files: dict[str, int] = {}
    small: dict[str, int] = {}
    lacking: dict[str, int] = {}
    for node in wanted.map.nodes:
        if node.kind is NodeKind.FILE:
            for above in _directories(node.path):
                files[above] = files.get(above, 0) + 1
    for number, node in enumerate(wanted.files):
        leaves = [leaf.position for leaf in islice(wanted.leaves(number), _WORTH_A_STREAM)]
        lacks = any(position in missing for position in leaves)
        if len(leaves) < _WORTH_A_STREAM:
            for above in _directories(node.path):
                small[above] = small.get(above, 0) + 1
                lacking[above] = lacking.get(above, 0) + (lacks or is_empty_leaf(wanted, leaves[0]))
    whole = {
        path
        for path, count in small.items()
        if count == files[path] >= _WORTH_A_DIRECTORY and lacking[path] >= _NEARLY * count
    }
    found: dict[int, str] = {}
    for number, node in enumerate(wanted.files):
        path = next((above for above in _directories(node.path) if above in whole), None)
        if path is not None:
            found[number] = path
    return found


def _directories(path: str) -> Iterator[str]:
    """The directories above a file, the root ("") first."""
    yield ""
    at = path.find("/")
    while at != -1:
        yield path[:at]
        at = path.find("/", at + 1)
