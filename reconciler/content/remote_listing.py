"""The listing of files that are not on this machine: selected by the same rules as a scan of a directory.

A bundle from a remote source has the CID that the same files have in a directory. A source has no entries for
directories, so there are only those with a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reconciler.content.patterns import FilePatterns, PatternList
from reconciler.content.scan import FileStamp, ReadSpan, SourceFile, SourceListing


def remote_listing(
    name: str,
    files: Iterable[tuple[str, int]],
    *,
    include_hidden: bool,
    patterns: FilePatterns,
    read_span: ReadSpan,
) -> SourceListing:
    """Return the listing of `files`, pairs of path and size in bytes, of the source `name`.

    Paths are valid already. Hidden entries and those that `patterns` leave out are named, as in a scan,
    without what is below them.
    """
    rules = _Selection(include_hidden, patterns)
    kept = [SourceFile(path, _stamp(size)) for path, size in files if rules.selects(path)]
    kept.sort(key=lambda file: file.path.encode())
    directories = {
        "/".join(names[:depth])
        for names in (file.path.split("/") for file in kept)
        for depth in range(1, len(names))
    }
    return SourceListing(
        Path(name),
        tuple(kept),
        _sorted(directories),
        _sorted(rules.hidden),
        0,
        _sorted(rules.excluded),
        (*rules.include.unused(), *rules.exclude.unused()),
        read_span,
    )


class _Selection:
    """The rules of a scan, applied to paths; each directory is judged once."""

    def __init__(self, include_hidden: bool, patterns: FilePatterns) -> None:
        self.include = PatternList(patterns.include)
        self.exclude = PatternList(patterns.exclude)
        self.hidden: set[str] = set()
        self.excluded: set[str] = set()
        self._include_hidden = include_hidden
        #: by directory: whether all that is below it is included; None when it is left out
        self._directories: dict[str, bool | None] = {"": not patterns.include}

    def selects(self, path: str) -> bool:
        """Return whether the file at `path` belongs to the bundle."""
        parent = path.rpartition("/")[0]
        included = self._directory(parent)
        return included is not None and self._judge(path, included, is_directory=False) is not None

    def _directory(self, path: str) -> bool | None:
        if path not in self._directories:
            above = self._directory(path.rpartition("/")[0])
            self._directories[path] = None if above is None else self._judge(path, above, is_directory=True)
        return self._directories[path]

    def _judge(self, path: str, included: bool, *, is_directory: bool) -> bool | None:
        """Return None for an entry that is left out, else whether all that is below it is included."""
        if path.rpartition("/")[2].startswith(".") and not self._include_hidden:
            self.hidden.add(path)
            return None
        if not self.include and not self.exclude:
            return True
        names = tuple(name.encode() for name in path.split("/"))
        excluded = self.exclude.last_match(names, is_directory=is_directory)
        if excluded is not None and not excluded.negated:
            self.excluded.add(path)
            return None
        if not included:
            matched = self.include.last_match(names, is_directory=is_directory)
            included = matched is not None and not matched.negated
        if included or is_directory:
            return included
        self.excluded.add(path)
        return None


def _stamp(size: int) -> FileStamp:
    return FileStamp(0, 0, size, 0, 0)


def _sorted(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(paths, key=str.encode))
