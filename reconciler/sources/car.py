"""A CAR file as a source: the files of its one DAG. Every block is verified when the CAR is opened."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path

from reconciler.content.car_dag import CarDag, open_car
from reconciler.content.source_file import WAIT_HINT
from reconciler.content.walk import FileNode, NodeKind, leaf_bytes
from reconciler.errors import BlockUnavailableError, SourceChangedError
from reconciler.progress import QUIET
from reconciler.sources.directory import local_path
from reconciler.sources.interface import (
    FileListing,
    ListedFile,
    SourceDefinition,
    SourceMissingError,
    SourceProtocolError,
    SourceSpan,
)
from reconciler.sources.listing import make_listing
from reconciler.sources.once import Once
from reconciler.sources.ranges import checked_range
from reconciler.sources.spans import PieceSpan


def open_source(
    definition: SourceDefinition, location: str, *, root: Path, environ: Mapping[str, str]
) -> CarSource:
    """Open the file `location` below `root`. Raises UsageError when it is outside of `root`."""
    del environ
    return CarSource(f"{definition.name}:{location}", location, local_path(root, location))


class CarSource:
    """The files in the CAR at `path`; the revision is its root CID."""

    serves_ranges = True
    latency = 0.0

    def __init__(self, name: str, location: str, path: Path) -> None:
        self.name = name
        self._location = location
        self._path = path
        self._opened = Once(self._open)

    def request(self, file: ListedFile, start: int, end: int) -> SourceSpan:
        """Implement WeightSource.request."""
        return PieceSpan(self.read(file, start, end - start), start, end)

    def close(self) -> None:
        """Close the file. May be called twice."""
        if (opened := self._opened.made()) is not None:
            opened[0].close()

    def list(self) -> FileListing:
        """Read and verify the whole CAR once. Raises SourceMissingError, and DataError for an invalid one."""
        return self._opened.get()[2]

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """Iterate over a range of `file`, from verified blocks. Raises SourceChangedError."""
        start, end = checked_range(file, start, length)
        car, nodes, _ = self._opened.get()
        if file.path not in nodes:
            raise SourceMissingError(self.name, "is not in the listing", file=file.path)
        if file.size != nodes[file.path].size:
            raise SourceChangedError(f"{self.name}: {file.path!r} has another size than when it was listed")
        for leaf in car.map.leaves(nodes[file.path]):
            first, last = max(start - leaf.offset, 0), min(end - leaf.offset, leaf.size)
            if first >= last:
                continue
            try:
                block = car.read(leaf.position)
            except BlockUnavailableError as error:
                raise SourceChangedError(f"{self.name}: {error.message}", hint=WAIT_HINT) from None
            yield leaf_bytes(car.layout, leaf.position, block)[first:last]

    def _open(self) -> tuple[CarDag, dict[str, FileNode], FileListing]:
        if not self._path.is_file():
            raise SourceMissingError(self.name, f"there is no file {str(self._path)!r}")
        car = open_car(self._path, QUIET)
        try:
            nodes = self._nodes(car)
            files = [ListedFile(path, node.size) for path, node in nodes.items()]
            root = str(car.layout.root)
            return car, nodes, make_listing(self.name, self._location, root, files, immutable=True)
        except BaseException:
            car.close()
            raise

    def _nodes(self, car: CarDag) -> dict[str, FileNode]:
        for node in car.map.nodes:
            if node.kind is NodeKind.SYMLINK:
                raise SourceProtocolError(self.name, "is a symbolic link", file=node.path)
            if node.kind is NodeKind.FILE and not node.path:
                raise SourceProtocolError(self.name, "is the CAR of a single file without a name")
        return {node.path: node for node in car.map.nodes if node.kind is NodeKind.FILE}
