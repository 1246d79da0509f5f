"""The files of a DAG that are fetched, and the place of every block in them. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, MutableSet, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reconciler.content.bounds import LIMITS
from reconciler.content.cid import RAW
from reconciler.content.walk import DagMap, FileNode, Leaf, NodeKind
from reconciler.errors import DataError, UsageError

_MOST_LEAVES = LIMITS.blocks


@dataclass(frozen=True, slots=True)
class FileSpan:
    """The place of a block's bytes: the number of a selected file, and offset and size in bytes."""

    file: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class SelectedFiles:
    """The selected files and directories of `map`. `size` is the sum of the files in bytes.

    `whole` is False when the user excluded files.
    """

    map: DagMap
    files: tuple[FileNode, ...]
    directories: tuple[str, ...]
    size: int
    whole: bool

    @property
    def names(self) -> frozenset[str]:
        """The names at the top of the directory."""
        paths = (*self.directories, *(node.path for node in self.files))
        return frozenset(path.partition("/")[0] for path in paths)

    @property
    def is_file(self) -> bool:
        """Whether the root itself is a file."""
        return len(self.files) == 1 and not self.files[0].path

    def leaves(self, number: int) -> Iterator[Leaf]:
        """Iterate over the leaves of the selected file `number`, in order."""
        return self.map.leaves(self.files[number])

    def subset(self, numbers: Sequence[int]) -> SelectedFiles:
        """Return only the selected files `numbers`, without directories."""
        files = tuple(self.files[number] for number in numbers)
        return SelectedFiles(self.map, files, (), sum(node.size for node in files), whole=False)


def select_files(dag_map: DagMap, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> SelectedFiles:
    """Select the files that match a glob in `include` (all files when it is empty) and none in `exclude`.

    A glob without a slash also matches the name of a file in any directory. Raises DataError for a symlink,
    which a bundle must not contain, and UsageError when no file is left.
    """
    for node in dag_map.nodes:
        if node.kind is NodeKind.SYMLINK:
            raise DataError(f"{node.path or 'the root'!r} is a symlink, which a bundle must not contain")
    every = [node for node in dag_map.nodes if node.kind is NodeKind.FILE]
    files = tuple(
        node
        for node in every
        if (not include or _matches(node.path, include)) and not _matches(node.path, exclude)
    )
    if every and not files:
        raise UsageError("--include and --exclude leave no file to fetch")
    whole = len(files) == len(every)
    directories = [node.path for node in dag_map.nodes if node.kind is NodeKind.DIRECTORY]
    if not whole:
        needed = {parent for node in files for parent in _parents(node.path)}
        directories = [path for path in directories if path in needed]
    return SelectedFiles(dag_map, files, tuple(directories), sum(node.size for node in files), whole)


class PositionSet(MutableSet[int]):
    """A set of layout positions below `count`, in one byte each."""

    def __init__(self, count: int, positions: Iterable[int] = ()) -> None:
        self._flags = bytearray(count)
        self._size = 0
        for position in positions:
            self.add(position)

    def __contains__(self, position: object) -> bool:
        return isinstance(position, int) and 0 <= position < len(self._flags) and bool(self._flags[position])

    def __iter__(self) -> Iterator[int]:
        at = self._flags.find(1)
        while at >= 0:
            yield at
            at = self._flags.find(1, at + 1)

    def __len__(self) -> int:
        return self._size

    def add(self, position: int) -> None:
        """Add a position."""
        self._size += not self._flags[position]
        self._flags[position] = 1

    def discard(self, position: int) -> None:
        """Remove a position, if it is there."""
        self._size -= self._flags[position]
        self._flags[position] = 0


class FileSpans(Mapping[int, tuple[FileSpan, ...]]):
    """The spans of the block at each layout position; a block that occurs several times has several.

    Stored as five numbers for each span, since a large model has many.
    """

    def __init__(self, positions: int) -> None:
        self._first = array("l", [-1]) * positions
        self._next = array("l")
        self._files = array("L")
        self._offsets = array("Q")
        self._sizes = array("Q")
        self._positions = 0

    def add(self, position: int, span: FileSpan) -> None:
        """Add a span of the block at `position`."""
        self._positions += self._first[position] < 0
        self._next.append(self._first[position])
        self._first[position] = len(self._files)
        self._files.append(span.file)
        self._offsets.append(span.offset)
        self._sizes.append(span.size)

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


def file_spans(selected: SelectedFiles) -> FileSpans:
    """Return the spans of every leaf of the selected files, by layout position.

    Raises DataError when the files together have more leaves than a DAG may have blocks: a few nodes that
    link to each other repeatedly can claim any number of leaves.
    """
    found = FileSpans(len(selected.map.layout))
    count = 0
    for number in range(len(selected.files)):
        for leaf in selected.leaves(number):
            count += 1
            if count > _MOST_LEAVES:
                raise DataError(f"the files have more than {_MOST_LEAVES} leaves")
            found.add(leaf.position, FileSpan(number, leaf.offset, leaf.size))
    return found


def is_empty_leaf(selected: SelectedFiles, position: int) -> bool:
    """Return whether the block is the empty raw block, which is never requested."""
    cid = selected.map.layout.cid(position)
    return cid.codec == RAW and cid.matches(b"")


def _matches(path: str, globs: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path, glob) or ("/" not in glob and fnmatchcase(name, glob)) for glob in globs)


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
