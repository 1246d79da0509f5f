"""The paths of a repository: its index, the files beside it, the weights, and the local state.

Finding them needs no network. A remote index is downloaded first and then has a layout of its own.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import UsageError, UserError, Where

INDEX = Path("releases/index.yaml")

_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Origin:
    """The place a remote index was read from: its address, and its commit when it is in a git repository.

    `content` is its address by CID when a name led there, "" for every other index.
    """

    place: str
    commit: str | None
    content: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryLayout:
    """The paths that a command uses. `root` is the repository, `source_root` the base of paths in the index.

    `origin` is None for an index on this machine.
    """

    root: Path
    index_file: Path
    targets_file: Path
    source_root: Path
    origin: Origin | None = None

    @property
    def sources_file(self) -> Path:
        """The definitions of the sources, beside the index; it may be missing."""
        return self.index_file.with_name("sources.yaml")

    @property
    def state(self) -> Path:
        """`.reconcile` in the repository: caches, locks and the default store.

        Deleting it loses nothing but the bytes in the default store.
        """
        return self.root / ".reconcile"

    @property
    def cache(self) -> Path:
        """The directory of all caches; it may be deleted at any time."""
        return self.state / "cache"

    def make_state(self) -> None:
        """Create the state directory, which keeps itself out of git.

        In a checkout that cannot be written, nothing is cached, and runs hold their lock elsewhere. Raises
        UserError when a repository has put the directory behind a symbolic link, and OSError when something
        else is at its path.
        """
        for place in (self.state, self.cache):
            if place.is_symlink():
                raise UserError(
                    "is a symbolic link, and local state is kept in the repository",
                    hint="delete it; to keep a store elsewhere, set its `path` in targets.yaml",
                    where=Where(str(place)),
                )
        try:
            self.state.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError), (self.state / ".gitignore").open("x") as ignore:
                ignore.write("*\n")
        except FileExistsError:
            raise NotADirectoryError(
                errno.ENOTDIR, "blocks the directory for local state", str(self.state)
            ) from None
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise


def find_layout(
    directory: Path | None,
    index: Path | None = None,
    targets: Path | None = None,
    source_root: Path | None = None,
) -> RepositoryLayout:
    """Return the layout of `directory`, or else of the nearest directory upwards that has an index.

    `index`, `targets` and `source_root` override the paths in it. Raises UsageError when there is no index,
    or when a given path does not exist.
    """
    if directory is not None and not directory.is_dir():
        raise UsageError(f"not a directory: {str(directory)!r}")
    root = directory if directory is not None else nearest_repository() if index is None else Path()
    file = index if index is not None else root / INDEX
    if not file.is_file():
        raise UsageError(
            f"no index at {str(file)!r}",
            hint="`reconcile init` makes one, `-C DIR` names another repository",
        )
    if targets is not None and not targets.is_file():
        raise UsageError(f"no targets file at {str(targets)!r}")
    if source_root is not None and not source_root.is_dir():
        raise UsageError(f"--source-root is not a directory: {str(source_root)!r}")
    return RepositoryLayout(
        root=root,
        index_file=file,
        targets_file=targets if targets is not None else file.with_name("targets.yaml"),
        source_root=source_root if source_root is not None else root,
    )


def nearest_repository() -> Path:
    """Return the nearest directory upwards that has an index, relative to here; `.` when there is none."""
    steps = Path()
    for _ in Path.cwd().parts:
        if (steps / INDEX).is_file():
            return steps
        steps = steps / ".."
    return Path()
