"""What of a DAG is wanted on disk, and at which place of which file each block goes. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reconciler.content.cid import RAW
from reconciler.content.profile import LIMITS
from reconciler.content.walk import DagMap, FileNode, Leaf, NodeKind
from reconciler.errors import DataError, UsageError

_MOST_LEAVES = LIMITS.blocks


@dataclass(frozen=True, slots=True)
class FileSpan:
    """Where the bytes of a block go: the number of a wanted file, and bytes in it."""

    file: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class WantedFiles:
    """The files and directories that are wanted of `map`, and their bytes together.

    `whole` is False when the user left files out.
    """

    map: DagMap
    files: tuple[FileNode, ...]
    directories: tuple[str, ...]
    size: int
    whole: bool

    @property
    def names(self) -> frozenset[str]:
        """What is wanted at the top of the directory."""
        paths = (*self.directories, *(node.path for node in self.files))
        return frozenset(path.partition("/")[0] for path in paths)

    @property
    def is_file(self) -> bool:
        """Whether the root itself is a file."""
        return len(self.files) == 1 and not self.files[0].path

    def leaves(self, number: int) -> Iterator[Leaf]:
        """The leaves of the wanted file `number`, in order."""
        return self.map.leaves(self.files[number])

    def part(self, numbers: Sequence[int]) -> WantedFiles:
        """Only the wanted files `numbers`, without directories."""
        files = tuple(self.files[number] for number in numbers)
        return WantedFiles(self.map, files, (), sum(node.size for node in files), whole=False)


def select(dag_map: DagMap, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> WantedFiles:
    """What matches one of the globs in `include` (all, without any) and none of those in `exclude`.

    A glob without a slash is also tried on a file's name alone. Raises DataError for a symlink, which no
    bundle has, and UsageError when nothing is left.
    """
    for node in dag_map.nodes:
        if node.kind is NodeKind.SYMLINK:
            raise DataError(
                f"{node.path or 'the root'!r} is a symlink; a bundle has none and none is written"
            )
    every = [node for node in dag_map.nodes if node.kind is NodeKind.FILE]
    files = tuple(
        node
        for node in every
        if (not include or _matches(node.path, include)) and not _matches(node.path, exclude)
    )
    if every and not files:
        raise UsageError("no file of it is left by --include and --exclude")
    whole = len(files) == len(every)
    directories = [node.path for node in dag_map.nodes if node.kind is NodeKind.DIRECTORY]
    if not whole:
        needed = {parent for node in files for parent in _parents(node.path)}
        directories = [path for path in directories if path in needed]
    return WantedFiles(dag_map, files, tuple(directories), sum(node.size for node in files), whole)


class FileSpans(Mapping[int, tuple[FileSpan, ...]]):
    """Where the block at each layout position goes; one that occurs several times has several places.

    Kept in a few numbers a place, since a large model has many.
    """

    def __init__(self, positions: int) -> None:
        self._first = array("l", [-1]) * positions
        self._next = array("l")
        self._files = array("L")
        self._offsets = array("Q")
        self._sizes = array("Q")
        self._positions = 0

    def add(self, position: int, place: FileSpan) -> None:
        """One more place of the block at `position`, before those that it has."""
        self._positions += self._first[position] < 0
        self._next.append(self._first[position])
        self._first[position] = len(self._files)
        self._files.append(place.file)
        self._offsets.append(place.offset)
        self._sizes.append(place.size)

    def __getitem__(self, position: int) -> tuple[FileSpan, ...]:
        found: list[FileSpan] = []
        at = self._first[position] if 0 <= position < len(self._first) else -1
        while at >= 0:
            found.append(FileSpan(self._files[at], self._offsets[at], self._sizes[at]))
            at = self._next[at]
        if not found:
            raise KeyError(position)
        return tuple(reversed(found))

    def __iter__(self) -> Iterator[int]:
        return (position for position, at in enumerate(self._first) if at >= 0)

    def __len__(self) -> int:
        return self._positions


def places(wanted: WantedFiles) -> FileSpans:
    """Where the block at each layout position goes.

    Raises DataError when the files have more leaves together than a DAG may have blocks: a few nodes that
    link to each other again and again claim any number of them.
    """
    found = FileSpans(len(wanted.map.layout))
    count = 0
    for number in range(len(wanted.files)):
        for leaf in wanted.leaves(number):
            count += 1
            if count > _MOST_LEAVES:
                raise DataError(f"the files have more than {_MOST_LEAVES} leaves")
            found.add(leaf.position, FileSpan(number, leaf.offset, leaf.size))
    return found


def is_empty_leaf(wanted: WantedFiles, position: int) -> bool:
    """Whether the block is the raw one without bytes, which nobody has to send."""
    cid = wanted.map.layout.cid(position)
    return cid.codec == RAW and cid.matches(b"")


def _matches(path: str, globs: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path, glob) or ("/" not in glob and fnmatchcase(name, glob)) for glob in globs)


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
