"""The content cache: fetched files by their own CID, shared by all versions and destinations.

A cached file is a read-only hard link to, or a reflink of, a fetched one, so that it uses no additional
space. It is hashed again whenever it is used, and removed when it no longer matches its CID. The whole
directory may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reconciler import fs
from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.cid import parse_canonical as parse_cid
from reconciler.content.identify import identify
from reconciler.errors import DataError
from reconciler.progress import Progress

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_NO_LINKS = (
    errno.ENOENT,
    errno.EXDEV,
    errno.EPERM,
    errno.EMLINK,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EACCES,
)


def default_cache(environ: dict[str, str] | os._Environ[str]) -> Path:
    """Return RECONCILE_CACHE, or `reconcile` in the user's cache directory (XDG Base Directory
    specification).
    """
    if environ.get("RECONCILE_CACHE"):
        return Path(environ["RECONCILE_CACHE"])
    return fs.user_directory(environ, "XDG_CACHE_HOME", ".cache")


class ContentCache:
    """The cache in `directory`, which is created with its first file. Without `writable` it is only read,
    such as the cache of another machine.
    """

    def __init__(self, directory: Path, *, writable: bool = True) -> None:
        self._files = directory / "files"
        self._writable = writable

    def find(self, cid: Cid, size: int) -> Path | None:
        """Return the path of the cached file `cid`, unverified; None when there is none of this size."""
        path = self._path(cid)
        try:
            status = path.stat(follow_symlinks=False)
        except OSError:
            return None
        return path if status.st_size == size and not path.is_symlink() else None

    def share(self, path: Path, destination: Path) -> bool:
        """Make `destination` a reflink of or a hard link to the cached file `path`.

        False when the file system supports neither. The caller verifies `destination`, since the cached file
        may change at any time.
        """
        staged = destination.with_name(f"{destination.name}.cached")
        staged.unlink(missing_ok=True)
        if not (_reflink(path, staged) or (self._writable and _link(path, staged))):
            return False
        staged.replace(destination)
        return True

    def add(self, cid: Cid, file: Path) -> None:
        """Add a complete, verified file; do nothing when it cannot be shared without a copy."""
        path = self._path(cid)
        with contextlib.suppress(OSError):
            if not self._writable or path.exists():
                return
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(prefix=".adding-", dir=path.parent) as directory:
                staged = Path(directory, "file")
                if _reflink(file, staged) or _link(file, staged):
                    staged.chmod(0o444)  # a hard link: the fetched file becomes read-only with it
                    staged.replace(path)

    def remove(self, path: Path) -> None:
        """Remove a damaged file, if the cache is writable."""
        if self._writable:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[tuple[Cid, Path]]:
        """Iterate over all cached files, each with its expected CID."""
        for path in sorted(self._files.glob("*/*")) if self._files.is_dir() else ():
            with contextlib.suppress(DataError):
                yield parse_cid(path.name), path

    def remove_damaged(self, progress: Progress) -> tuple[int, list[Path]]:
        """Hash every cached file and remove those that do not match their CID.

        Return the number of files before, and the paths of the removed ones.
        """
        files = list(self)
        damaged: list[Path] = []
        with progress.task("verifying the cache", None) as task:
            for cid, path in files:
                root = identify(bare_bundle(path), cache=None).identity.root
                task.advance(path.stat().st_size)
                if root != cid:
                    damaged.append(path)
                    self.remove(path)
        return len(files), damaged

    def _path(self, cid: Cid) -> Path:
        name = str(cid)
        return self._files / name[-2:] / name


def _reflink(source: Path, target: Path) -> bool:
    try:
        with source.open("rb") as read, target.open("xb") as write:
            fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True
