"""The layout of a bundle before its bytes are read: where each leaf will be in the CAR.

Sizes and names alone determine the tree, and so the offset of every block, except that a block which occurs
twice is stored once. Here every leaf counts as different from all others, unless it is known before that two
files have the same bytes. The CIDs of a provisional layout are not those of any bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
    """The `layout` of a bundle under invented CIDs, and its `files`, in the order of their leaves there."""

    layout: DagLayout
    files: tuple[SourceFile, ...]
    _first: Mapping[str, int]

    def leaves(self, file: SourceFile) -> Iterator[LeafSpan]:
        """Yield the leaves of a file in order."""
        first, size = self._first[file.path], file.stamp.size
        for number in range(leaf_count(size)):
            start = number * profile.CHUNK_SIZE
            yield LeafSpan(
                number, start, min(profile.CHUNK_SIZE, size - start), self._position(first, number, size)
            )

    def _position(self, first: int, number: int, size: int) -> int:
        position = self.layout.find(Cid(RAW, _invented(first + number, size)))
        assert position is not None  # noqa: S101 - the layout was made of these leaves
        return position


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
