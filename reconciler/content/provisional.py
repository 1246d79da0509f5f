"""The layout of a bundle before its bytes are read: where each leaf will be in the CAR.

Sizes and names alone determine the tree, and so the offset of every block, except that a block which occurs
twice is stored once. Here every leaf counts as different from all others, unless it is known before that two
files have the same bytes. The CIDs of a provisional layout are not those of any bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from reconciler.content import checksums, hashing, profile
from reconciler.content.bundle import Bundle, MemoryFile
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.hashing import FileDigests
from reconciler.content.identify import assemble
from reconciler.content.scan import SourceFile
from reconciler.content.unixfs_tree import DIGEST_SIZE, leaf_count

_UNKNOWN = bytes(DIGEST_SIZE)


@dataclass(frozen=True, slots=True)
class LeafSpan:
    """One leaf of a file: its number in the file, its bytes there, and its position in the layout."""

    number: int
    start: int
    size: int
    position: int


@dataclass(frozen=True, slots=True)
class ProvisionalLayout:
    """The `layout` of a bundle under invented CIDs, and its `files`, in the order of their leaves there.

    A part of it has the same layout, some of the files, and of large ones only some leaves.
    """

    layout: DagLayout
    files: tuple[SourceFile, ...]
    _first: Mapping[str, int]
    _divided: Mapping[str, range] = field(default_factory=dict)

    def part(self, number: int, count: int) -> ProvisionalLayout:
        """Return part `number`, from 1, of `count` parts of about the same number of bytes.

        Only files that are larger than such a share are divided. Every leaf is in exactly one part.
        """
        total = sum(file.stamp.size for file in self.files)
        files, divided, start = [], {}, 0
        for file in self.files:
            size = file.stamp.size
            if size * count <= total:
                chosen = _share(2 * start + size, 2 * total, count) == number
            else:
                numbers = [
                    leaf
                    for leaf in range(leaf_count(size))
                    if _share(start + leaf * profile.CHUNK_SIZE, total, count) == number
                ]
                chosen = bool(numbers)
                if chosen and len(numbers) < leaf_count(size):
                    divided[file.path] = range(numbers[0], numbers[-1] + 1)
            if chosen:
                files.append(file)
            start += size
        return replace(self, files=tuple(files), _divided=divided)

    def is_whole(self, file: SourceFile) -> bool:
        """Return whether all leaves of `file` are in this part."""
        return file.path not in self._divided

    @property
    def size(self) -> int:
        """Bytes of the leaves of all files of this part, equal ones counted each time."""
        return sum(leaf.size for file in self.files for leaf in self.leaves(file))

    def leaves(self, file: SourceFile) -> Iterator[LeafSpan]:
        """Iterate over the leaves of a file that are in this part, in order."""
        return (self.leaf(file, number) for number in self.numbers(file))

    def numbers(self, file: SourceFile) -> range:
        """Return the numbers of the leaves of a file that are in this part."""
        return self._divided.get(file.path, range(leaf_count(file.stamp.size)))

    def leaf(self, file: SourceFile, number: int) -> LeafSpan:
        """Return one leaf of a file."""
        size, start = file.stamp.size, number * profile.CHUNK_SIZE
        return LeafSpan(number, start, min(profile.CHUNK_SIZE, size - start), self.position(file, number))

    def position(self, file: SourceFile, number: int) -> int:
        """Return the position of one leaf of a file."""
        return self._position(self._first[file.path], number, file.stamp.size)

    def _position(self, first: int, number: int, size: int) -> int:
        position = self.layout.find(Cid(RAW, _invented(first + number, size)))
        assert position is not None  # noqa: S101 - the layout was made of these leaves
        return position


def _share(place: int, total: int, count: int) -> int:
    """Return in which of `count` equal shares of `total` a place is, from 1."""
    return min(count, place * count // total + 1) if total else 1


def provisional_layout(bundle: Bundle, same: Mapping[str, bytes]) -> ProvisionalLayout:
    """Return the layout of `bundle`, of which no file was read.

    Files with equal values in `same`, by path, have the same bytes.
    """
    digests: dict[str, FileDigests] = {}
    first: dict[str, int] = {}
    known: dict[tuple[bytes, int], int] = {}
    count = 1
    for file in bundle.listing.files:
        size, leaves = file.stamp.size, leaf_count(file.stamp.size)
        key = (same[file.path], size) if file.path in same else None
        start = known.get(key, count) if key else count
        if key:
            known[key] = start
        if start == count:
            count += leaves
        first[file.path] = start
        invented = b"".join(_invented(start + number, size) for number in range(leaves))
        digests[file.path] = FileDigests(_UNKNOWN, invented)
    dag = assemble(bundle, digests, _generated(bundle, digests), None)
    found = ProvisionalLayout(dag.layout, (), first)
    files = sorted(bundle.listing.files, key=lambda file: next(found.leaves(file)).position)
    return ProvisionalLayout(dag.layout, tuple(files), first)


def _generated(bundle: Bundle, digests: Mapping[str, FileDigests]) -> list[MemoryFile]:
    """Return the generated files with bytes of their sizes."""
    made = []
    for name in bundle.generated:
        if name == checksums.NAME:
            pairs = [(path, _UNKNOWN) for path in digests]
            pairs += [(other, _UNKNOWN) for other in bundle.generated if other != name]
            made.append(MemoryFile(name, checksums.render(pairs)))
        else:
            made.append(MemoryFile(name, bundle.manifest or b""))
    return made


def _invented(number: int, size: int) -> bytes:
    """Return a digest that no other leaf has; files without bytes share theirs, which is known."""
    return number.to_bytes(DIGEST_SIZE, "big") if size else hashing.leaf_digests(b"")
