"""A local directory as a source: the scan of `content.scan`, with reads that detect every change."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from pathlib import Path

from reconciler.content import source_file
from reconciler.content.scan import SourceFile, SourceListing, scan
from reconciler.errors import UsageError
from reconciler.fs import read_at
from reconciler.sources.interface import (
    FileListing,
    ListedFile,
    SourceDefinition,
    SourceMissingError,
    SourceSpan,
)
from reconciler.sources.listing import make_listing
from reconciler.sources.once import Once
from reconciler.sources.ranges import checked_range
from reconciler.sources.spans import PieceSpan

_PIECE = 1 << 20  # bytes


def open_source(
    definition: SourceDefinition, location: str, *, root: Path, environ: Mapping[str, str]
) -> DirectorySource:
    """Open the directory `location` below `root`. Raises UsageError when it is outside of `root`."""
    del environ
    return DirectorySource(f"{definition.name}:{location}", location, local_path(root, location))


def local_path(root: Path, location: str) -> Path:
    """Return the path of `location` below `root`. Raises UsageError for one outside, also through a link."""
    path = root / location
    if not path.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"{location!r} leads outside {str(root)!r}",
            hint="name the directory that contains the weights with --source-root",
        )
    return path


class DirectorySource:
    """The regular files below `path`, hidden ones included; the patterns of a version are applied later.

    The revision is that of the stamps of all files, so it changes whenever a file is written.
    """

    serves_ranges = True
    latency = 0.0

    def __init__(self, name: str, location: str, path: Path) -> None:
        self.name = name
        self._location = location
        self._path = path
        self._scanned = Once(self._scan)

    def list(self) -> FileListing:
        """Scan the directory once. Raises SourceMissingError, and BundleError for what cannot be packed."""
        return self._scanned.get()[1]

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """Iterate over a range of `file`. Raises SourceChangedError when it is not the scanned file."""
        start, end = checked_range(file, start, length)
        scanned, _, files = self._scanned.get()
        if file.path not in files:
            raise SourceMissingError(self.name, "is not in the listing", file=file.path)
        source = files[file.path]
        with source_file.opened(scanned, source) as descriptor:
            while start < end:
                piece = read_at(descriptor, min(_PIECE, end - start), start)
                if not piece:
                    raise source_file.changed(source, start)
                yield piece
                start += len(piece)

    def request(self, file: ListedFile, start: int, end: int) -> SourceSpan:
        """Implement WeightSource.request."""
        return PieceSpan(self.read(file, start, end - start), start, end)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _scan(self) -> tuple[SourceListing, FileListing, dict[str, SourceFile]]:
        if not self._path.exists():
            raise SourceMissingError(self.name, f"there is no directory {str(self._path)!r}")
        found = scan(self._path, include_hidden=True)
        return found, self._listing(found), {file.path: file for file in found.files}

    def _listing(self, found: SourceListing) -> FileListing:
        stamps = hashlib.sha256()
        for file in found.files:
            stamps.update(repr((file.path, file.stamp.size, file.stamp.mtime_ns, file.stamp.ino)).encode())
        files = (ListedFile(file.path, file.stamp.size) for file in found.files)
        return make_listing(self.name, self._location, f"stamps:{stamps.hexdigest()}", files)
