"""What lies in a source directory: regular files with their stamps, directories, and what was left out.

Nothing is read here but directory entries, and nothing outside the root: directories are opened one below
the other without following links. Whatever cannot become part of a bundle that unpacks the same everywhere is
refused with its path. A symbolic link is refused too, also as the root itself: what it points to can change,
or lie outside, without the directory changing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.content import profile
from reconciler.content.profile import LIMITS
from reconciler.errors import BundleError, DataError

MAX_DEPTH = (
    32  #: directories inside each other; readers of DAGs stop at 64 levels, and large ones take several
)
CROWDED = 1_000  #: entries above which other tools make another root of a directory

_KINDS = (
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells one state of a file from another without reading it; times in nanoseconds."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One regular file: `path` is relative to the root, with `/`."""

    path: str
    stamp: FileStamp


@dataclass(frozen=True, slots=True)
class SourceListing:
    """One scan of `root`.

    `files` and `directories` (without the root itself) are sorted by the UTF-8 bytes of their paths. `hidden`
    are the entries that were left out because their names begin with a dot. `scanned_at_ns` is the wall clock
    just before the scan: only the identity cache looks at it, nothing of it reaches a bundle.
    """

    root: Path
    files: tuple[SourceFile, ...]
    directories: tuple[str, ...]
    hidden: tuple[str, ...]
    scanned_at_ns: int

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stamp.size for file in self.files)

    def locate(self, file: SourceFile) -> Path:
        """Where `file` lies on disk."""
        return self.root / file.path

    def empty_directories(self) -> tuple[str, ...]:
        """Directories without any entry of the listing; some other tools drop them and get another root."""
        occupied = {_parent(path) for path in self._paths()}
        return tuple(path for path in self.directories if path not in occupied)

    def crowded_directories(self) -> tuple[tuple[str, int], ...]:
        """Directories of more than CROWDED entries ("" is the root), with the number of their entries."""
        entries: dict[str, int] = {}
        for path in self._paths():
            parent = _parent(path)
            entries[parent] = entries.get(parent, 0) + 1
        return tuple((path, count) for path, count in sorted(entries.items()) if count > CROWDED)

    def _paths(self) -> Iterator[str]:
        yield from (file.path for file in self.files)
        yield from self.directories


def stamp_of(status: os.stat_result) -> FileStamp:
    """The stamp in the result of a stat call."""
    return FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def scan(directory: Path, *, include_hidden: bool) -> SourceListing:
    """Every file and directory below `directory`; hidden ones (a leading dot) only with `include_hidden`.

    Raises BundleError, naming the path, for anything that cannot be packed.
    """
    scanned_at = time.time_ns()
    walk = _Walk(include_hidden)
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_open_root(directory, error) from None
    try:
        walk.enter(root, "", 0)
    finally:
        os.close(root)
    walk.files.sort(key=lambda file: file.path.encode())
    return SourceListing(
        directory,
        tuple(walk.files),
        tuple(sorted(walk.directories, key=str.encode)),
        tuple(sorted(walk.hidden, key=str.encode)),
        scanned_at,
    )


def scan_file(path: Path) -> SourceListing:
    """The listing of a single regular file, whose root is the directory it lies in. Raises BundleError."""
    scanned_at = time.time_ns()
    try:
        status = path.lstat()
    except OSError as error:
        raise BundleError(f"cannot read {str(path)!r}: {_reason(error)}") from None
    _check_name(path.name, path.name)
    _check_kind(path.name, status.st_mode)
    return SourceListing(path.parent, (SourceFile(path.name, stamp_of(status)),), (), (), scanned_at)


class _Walk:
    """One walk through a directory tree, collecting what it finds."""

    def __init__(self, include_hidden: bool) -> None:
        self.include_hidden = include_hidden
        self.files: list[SourceFile] = []
        self.directories: list[str] = []
        self.hidden: list[str] = []

    def enter(self, directory: int, prefix: str, depth: int) -> None:
        """Collect the entries of the open `directory`, whose path with a final slash is `prefix`."""
        if depth > MAX_DEPTH:
            raise BundleError(f"{prefix!r} is more than {MAX_DEPTH} directories deep")
        try:
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise BundleError(f"cannot list {prefix or '.'!r}: {_reason(error)}") from None
        seen: dict[str, str] = {}
        for entry in found:
            path = prefix + entry.name
            if entry.name.startswith(".") and not self.include_hidden:
                self.hidden.append(_printable(path))
                continue
            _check_name(entry.name, path)
            twin = seen.setdefault(profile.collision_key(entry.name), entry.name)
            if twin != entry.name:
                raise BundleError(
                    f"{path!r} and {prefix + twin!r} are one name where case or normal form is ignored",
                    hint="rename one of them",
                )
            self._collect(directory, entry, path, depth)
            if len(self.files) + len(self.directories) > LIMITS.paths:
                raise BundleError(f"more than {LIMITS.paths} files and directories")

    def _collect(self, directory: int, entry: os.DirEntry[str], path: str, depth: int) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
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
            self.enter(below, path + "/", depth + 1)
        finally:
            os.close(below)


def advice_when_missing(path: str) -> str | None:
    """What to do when a list names `path` and the listing has no such file."""
    if any(part.startswith(".") for part in path.split("/")):
        return "hidden files are left out; include them (--hidden, or `hidden: include` in the index)"
    return None


def _check_name(name: str, path: str) -> None:
    try:
        profile.decode(os.fsencode(name))
    except DataError as error:
        raise BundleError(f"{_printable(path)!r}: {error.message}", hint="rename it") from None


def _check_kind(path: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        raise BundleError(
            f"{path!r} is a symbolic link",
            hint="put the file itself in its place (cp --dereference), or move the link out of the directory",
        )
    kind = next((name for test, name in _KINDS if test(mode)), "no regular file")
    raise BundleError(
        f"{path!r} is {kind}; a bundle has regular files only", hint="move it out of the directory"
    )


def _cannot_open_root(directory: Path, error: OSError) -> BundleError:
    # ELOOP or ENOTDIR, by platform, when the root is a link; only looking tells which it is.
    if directory.is_symlink():
        return BundleError(
            f"{str(directory)!r} is a symbolic link", hint="name the directory that it points to instead"
        )
    return BundleError(f"cannot open the directory {str(directory)!r}: {_reason(error)}")


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _printable(path: str) -> str:
    return os.fsencode(path).decode(errors="replace")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
