"""The scan of a source directory: regular files with their stamps, directories, and hidden entries.

The scan reads directory entries only, and nothing outside the root: directories are opened one below the
other without following links. Anything that cannot be part of a bundle that unpacks the same everywhere is an
error with its path. Symbolic links are an error as well, even the root itself: their target can change, or be
outside, without a change of the directory. The one exception are the links of a Hugging Face cache, whose
targets are in the same cache (`hub_links.py`).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.content import bounds
from reconciler.content.bounds import LIMITS
from reconciler.content.hub_links import HubBlobs, not_accepted
from reconciler.content.patterns import ALL_FILES, FilePatterns, PatternList
from reconciler.errors import BundleError, DataError

#: nested directories; readers of DAGs stop at 64 levels, and a large directory takes several
MAX_DEPTH = 32

_KINDS = (
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """The metadata that distinguishes states of a file without reading it; times in nanoseconds."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One regular file; `path` is relative to the root and uses `/`.

    `blob` is the name of the file in `blobs/` of a Hugging Face cache that the link at `path` leads to.
    """

    path: str
    stamp: FileStamp
    blob: str | None = None


#: reads bytes of a file that is not on this machine: the file, the number of bytes, and the first of them
ReadSpan = Callable[[SourceFile, int, int], bytes]


@dataclass(frozen=True, slots=True)
class SourceListing:
    """One scan of `root`.

    `files` and `directories` (without the root itself) are sorted by the UTF-8 bytes of their paths. `hidden`
    are the entries that were left out because their names begin with a dot, `excluded` those that patterns
    left out, both without what is below them. `unused` are the patterns that matched nothing. `scanned_at_ns`
    is the wall clock just before the scan; only the identity cache uses it, and no bundle depends on it.
    With `read_span` the files are those of a remote source, which `root` names, and are read through it.
    """

    root: Path
    files: tuple[SourceFile, ...]
    directories: tuple[str, ...]
    hidden: tuple[str, ...]
    scanned_at_ns: int
    excluded: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    read_span: ReadSpan | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stamp.size for file in self.files)

    @property
    def collisions(self) -> tuple[tuple[str, ...], ...]:
        """The groups of paths that differ only in case or Unicode form; some disks hold only one of them."""
        return bounds.collisions((*self.directories, *(file.path for file in self.files)))

    def locate(self, file: SourceFile) -> Path:
        """Return the path of `file` on disk, which is not a link."""
        return self.root / file.path if file.blob is None else self.root / "../../blobs" / file.blob


def stamp_of(status: os.stat_result) -> FileStamp:
    """Return the stamp in the result of a stat call."""
    return FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def scan(
    directory: Path,
    *,
    include_hidden: bool,
    patterns: FilePatterns = ALL_FILES,
    boundary: Path | None = None,
) -> SourceListing:
    """List the files and directories below `directory`; hidden ones (a leading dot) with `include_hidden`.

    `patterns` leave out entries of any kind, and then all directories without a file that is left. With
    `boundary`, a Hugging Face cache that the directory belongs to must be inside it as well. Raises
    BundleError with the path for anything that cannot be packed.
    """
    scanned_at = time.time_ns()
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_open_root(directory, error) from None
    blobs = HubBlobs(root, boundary)
    found = _Scan(include_hidden, patterns, blobs)
    try:
        found.enter(root, "", (), included=not patterns.include)
    finally:
        blobs.close()
        os.close(root)
    found.files.sort(key=lambda file: file.path.encode())
    directories = _with_files(found) if patterns else found.directories
    return SourceListing(
        directory,
        tuple(found.files),
        tuple(sorted(directories, key=str.encode)),
        tuple(sorted(found.hidden, key=str.encode)),
        scanned_at,
        tuple(sorted(found.excluded, key=str.encode)),
        (*found.include.unused(), *found.exclude.unused()),
    )


def scan_file(path: Path) -> SourceListing:
    """Return the listing of a single regular file; its root is the parent directory. Raises BundleError.

    The file may be a link at the top of a snapshot of a Hugging Face cache.
    """
    scanned_at = time.time_ns()
    try:
        status = path.lstat()
    except OSError as error:
        raise BundleError(f"cannot read {str(path)!r}: {_reason(error)}") from None
    _check_name(path.name, path.name)
    blob = None
    if stat.S_ISLNK(status.st_mode):
        blob, status = _blob_of(path)
    _check_kind(path.name, status.st_mode)
    return SourceListing(path.parent, (SourceFile(path.name, stamp_of(status), blob),), (), (), scanned_at)


def _blob_of(path: Path) -> tuple[str, os.stat_result]:
    """Return the blob that the link `path` leads to, at the top of a snapshot of a Hugging Face cache."""
    try:
        root = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(f"cannot read {str(path)!r}: {_reason(error)}") from None
    blobs = HubBlobs(root, None)
    try:
        return blobs.resolve(os.readlink(path.name, dir_fd=root), path.name)
    except OSError as error:
        raise BundleError(f"cannot read {str(path)!r}: {_reason(error)}") from None
    finally:
        blobs.close()
        os.close(root)


class _Scan:
    """A traversal of a directory tree that collects its entries."""

    def __init__(self, include_hidden: bool, patterns: FilePatterns, blobs: HubBlobs) -> None:
        self.include_hidden = include_hidden
        self.include = PatternList(patterns.include)
        self.exclude = PatternList(patterns.exclude)
        self.blobs = blobs
        self.files: list[SourceFile] = []
        self.directories: list[str] = []
        self.hidden: list[str] = []
        self.excluded: list[str] = []

    def enter(self, directory: int, prefix: str, names: tuple[bytes, ...], *, included: bool) -> None:
        """Collect the entries of the open `directory`.

        `prefix` is its path with a final slash, `names` are the parts of that path. `included`: everything in
        it that no pattern excludes belongs to the bundle.
        """
        if len(names) > MAX_DEPTH:
            raise BundleError(f"{prefix!r} is nested more than {MAX_DEPTH} directories deep")
        try:
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise BundleError(f"cannot list {prefix or '.'!r}: {_reason(error)}") from None
        for entry in listed:
            path = prefix + entry.name
            if entry.name.startswith(".") and not self.include_hidden:
                self.hidden.append(_printable(path))
                continue
            below = (*names, os.fsencode(entry.name))
            selected = self._is_selected(entry, below, included)
            if selected is None:
                self.excluded.append(_printable(path))
                continue
            _check_name(entry.name, path)
            self._collect(directory, entry, path, below, included=selected)
            if len(self.files) + len(self.directories) + len(self.excluded) > LIMITS.paths:
                raise BundleError(f"more than {LIMITS.paths} files and directories")

    def _is_selected(self, entry: os.DirEntry[str], names: tuple[bytes, ...], included: bool) -> bool | None:
        """Return None for an entry that is left out, else whether all that is below it is included."""
        if not self.include and not self.exclude:
            return True
        is_directory = entry.is_dir(follow_symlinks=False)
        excluded = self.exclude.last_match(names, is_directory=is_directory)
        if excluded is not None and not excluded.negated:
            return None
        if not included:
            matched = self.include.last_match(names, is_directory=is_directory)
            included = matched is not None and not matched.negated
        return included if included or is_directory else None

    def _collect(
        self, directory: int, entry: os.DirEntry[str], path: str, names: tuple[bytes, ...], *, included: bool
    ) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                blob, status = self.blobs.resolve(os.readlink(entry.name, dir_fd=directory), path)
                self.files.append(SourceFile(path, stamp_of(status), blob))
                return
            if not stat.S_ISDIR(status.st_mode):
                _check_kind(path, status.st_mode)
                self.files.append(SourceFile(path, stamp_of(status)))
                return
            below = os.open(
                entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )
        except OSError as error:
            raise BundleError(f"cannot read {path!r}: {_reason(error)}") from None
        try:
            self.directories.append(path)
            self.enter(below, path + "/", names, included=included)
        finally:
            os.close(below)


def _with_files(found: _Scan) -> list[str]:
    """Return the directories with a file in or below them."""
    needed: set[str] = set()
    for file in found.files:
        parent = file.path.rpartition("/")[0]
        while parent and parent not in needed:
            needed.add(parent)
            parent = parent.rpartition("/")[0]
    return [directory for directory in found.directories if directory in needed]


def missing_file_hint(path: str, listing: SourceListing | None) -> str | None:
    """Return a hint for a list in the directory that names `path`, which `listing` does not have."""
    if any(part.startswith(".") for part in path.split("/")):
        return "hidden files are left out; include them (--hidden, or `hidden: include` in the index)"
    if listing and any(path == left or path.startswith(f"{left}/") for left in listing.excluded):
        return "patterns leave it out; exclude this list as well, so that one is generated"
    return None


def _check_name(name: str, path: str) -> None:
    try:
        bounds.decode_name(os.fsencode(name))
    except DataError as error:
        raise BundleError(f"{_printable(path)!r}: {error.message}", hint="rename it") from None


def _check_kind(path: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        raise not_accepted(path)
    kind = next((name for test, name in _KINDS if test(mode)), "not a regular file")
    raise BundleError(
        f"{path!r} is {kind}; a bundle contains regular files only", hint="move it out of the directory"
    )


def _cannot_open_root(directory: Path, error: OSError) -> BundleError:
    # When the root is a link, the error is ELOOP or ENOTDIR, depending on the platform.
    if directory.is_symlink():
        return BundleError(
            f"{str(directory)!r} is a symbolic link", hint="use the directory that it points to"
        )
    return BundleError(f"cannot open the directory {str(directory)!r}: {_reason(error)}")


def _printable(path: str) -> str:
    return os.fsencode(path).decode(errors="replace")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
