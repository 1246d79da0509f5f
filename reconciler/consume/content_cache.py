"""Files that were fetched once, by their own CID, shared by all versions and destinations.

A file here is a hard link to (or a reflink of) a fetched one, read-only, so that it costs no second copy. It
is hashed again whenever it is used; one that no longer gives its CID is thrown away. The whole directory may
be deleted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.cid import parse as parse_cid
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
    """RECONCILE_CACHE, else `reconcile` in the user's cache directory (XDG Base Directory specification)."""
    if environ.get("RECONCILE_CACHE"):
        return Path(environ["RECONCILE_CACHE"])
    home = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "reconcile"


class ContentCache:
    """The cache in `directory`, made when something is kept. Without `writable` it is another machine's."""

    def __init__(self, directory: Path, *, writable: bool = True) -> None:
        self._files = directory / "files"
        self._writable = writable

    def find(self, cid: Cid, size: int) -> Path | None:
        """The cached file `cid`, not verified; None when there is none of this size."""
        path = self._path(cid)
        try:
            status = path.stat(follow_symlinks=False)
        except OSError:
            return None
        return path if status.st_size == size and not path.is_symlink() else None

    def take(self, path: Path, into: Path) -> bool:
        """Put a cached file at `into` without copying where the disk can do that; else False. Hash it there:
        what lies in the cache may change until then.
        """
        staged = into.with_name(f"{into.name}.cached")
        staged.unlink(missing_ok=True)
        if not (_reflink(path, staged) or (self._writable and _link(path, staged))):
            return False
        staged.replace(into)
        return True

    def keep(self, cid: Cid, file: Path) -> None:
        """Add a whole, verified file. Where it cannot be shared without a copy, it is not added."""
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

    def drop(self, path: Path) -> None:
        """Throw a damaged file away, where that is allowed."""
        if self._writable:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[tuple[Cid, Path]]:
        """Every cached file with the CID that it should give."""
        for path in sorted(self._files.glob("*/*")) if self._files.is_dir() else ():
            with contextlib.suppress(DataError):
                yield parse_cid(path.name), path

    def remove_damaged(self, progress: Progress) -> tuple[int, list[Path]]:
        """Hash every cached file and remove those that do not match their CID.

        Return the number of files before, and the paths of the removed ones.
        """
        files = list(self)
        damaged: list[Path] = []
        with progress.task("verify the cache", None) as task:
            for cid, path in files:
                root = identify(bare_bundle(path), cache=None).identity.root
                task.advance(path.stat().st_size)
                if root != cid:
                    damaged.append(path)
                    self.drop(path)
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
