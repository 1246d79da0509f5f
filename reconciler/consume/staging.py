"""Staging: the verified part of a fetch, kept beside the destination across interruptions.

The staging directory `.<name>.fetch-<end of the root>` in the destination's parent contains the files in full
length, with holes where nothing was fetched yet. There is no journal: the next run hashes what is there and
keeps what matches, so neither a kill nor a lost page can put a wrong byte into the destination.

A destination that is a mount point has it inside, see `mount_point`.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from reconciler.consume.mount_point import check_mount, is_mount_point, move_into_mount, undo_move
from reconciler.consume.selection import FileSpan, SelectedFiles
from reconciler.consume.sources import Parts
from reconciler.content.bounds import collisions
from reconciler.content.cid import Cid
from reconciler.content.walk import leaf_bytes
from reconciler.errors import DataError, LockedError, ReconcilerError, UsageError
from reconciler.fs import (
    check_free,
    exchange,
    lock_directory,
    publish_atomically,
    sync_directory,
    sync_resumable,
    write_at,
)

_CONTENT = "content"
_WRITE_OUT = 64 << 20  # bytes after which a file is flushed, so that the flush at the end is short
_FLUSHES = 16  # files that are flushed at the same time at the end
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """The staged files of one root for one destination; see `open_staging`."""

    def __init__(self, directory: Path, destination: Path, selected: SelectedFiles) -> None:
        self.destination = destination
        self.directory = directory
        self._in_mount = directory.parent == destination
        self._content = directory / _CONTENT
        self._selected = selected
        self._paths = [self._content / node.path if node.path else self._content for node in selected.files]
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._unflushed = 0
        self.lost: OSError | None = None  #: why a staged file could not be flushed, and was removed

    def path(self, number: int) -> Path:
        """Return the staged path of the selected file `number`."""
        return self._paths[number]

    @property
    def content(self) -> Path:
        """The directory, or the single file, that is published."""
        return self._content

    def prepare(self, keep: Collection[int] = ()) -> None:
        """Create all selected files in full length, and remove everything else from the directory.

        The selected files `keep` stay as they are.
        """
        if self._in_mount:
            undo_move(self._content, self.destination, self.directory, self._selected.names)
        self._check_names()
        directories = [self._content / path for path in self._selected.directories]
        expected = {self._content, *self._paths, *directories}
        for parent, subdirectories, files in os.walk(self.directory):
            for name in (*subdirectories, *files):
                path = Path(parent, name)
                if path not in expected or path.is_symlink():
                    _remove(path)
        if not self._selected.is_file:
            _make_directory(self._content)
        for directory in directories:
            _make_directory(directory)
        for number, (node, path) in enumerate(zip(self._selected.files, self._paths, strict=True)):
            if number in keep:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            # A file shared with the cache must not be written to: it is shared again, or fetched.
            if not path.exists() or path.stat().st_size != node.size or path.stat().st_nlink > 1:
                self.reset(number)

    def _check_names(self) -> None:
        """Raise UsageError when the file system takes two of the selected names for one."""
        paths = (*self._selected.directories, *(node.path for node in self._selected.files))
        for group in collisions(paths):
            if not holds_each(self.directory, [path.rpartition("/")[2] for path in group]):
                raise UsageError(
                    f"{' and '.join(map(repr, group))} are one name on the file system of "
                    f"{str(self.destination)!r}, which cannot hold both",
                    hint="fetch to a file system that distinguishes them, or leave one out with --exclude",
                )

    def reset(self, number: int) -> None:
        """Replace the selected file `number` by a new one: a single hole in full length."""
        path = self._paths[number]
        path.unlink(missing_ok=True)
        descriptor = os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.truncate(descriptor, self._selected.files[number].size)
        finally:
            os.close(descriptor)

    def write(self, spans: Sequence[FileSpan], position: int, block: Parts) -> None:
        """Write the verified `block` at `position` of the layout to all its spans.

        Raises DataError when its length differs from the one in the tree, and OSError, also for a flush that
        has failed meanwhile.
        """
        self._require_flushed()
        layout = self._selected.map.layout
        data = block if layout.is_leaf(position) else (leaf_bytes(layout, position, b"".join(block)),)
        size = sum(map(len, data))
        for span in spans:
            if size != span.size:
                name = self._selected.files[span.file].path
                raise DataError(
                    f"{name!r} at byte {span.offset}: the leaf has {size} bytes, "
                    f"but its parent node declares {span.size}"
                )
            descriptor = os.open(self._paths[span.file], _WRITE)
            try:
                offset = span.offset
                for part in data:
                    write_at(descriptor, part, offset)
                    offset += len(part)
            finally:
                os.close(descriptor)
            self._unflushed += size  # an update lost between threads only delays the next flush
            if self._unflushed >= _WRITE_OUT:
                self._unflushed = 0
                self._writer.submit(self._flush_file, self._paths[span.file])

    def close(self) -> None:
        """Wait for the flush in progress."""
        self._writer.shutdown(cancel_futures=True)

    def adopt(self, number: int, file: Path) -> bool:
        """Make the staged file `number` a hard link to `file`, or a copy; return whether it is a link."""
        path = self._paths[number]
        path.unlink(missing_ok=True)
        try:
            os.link(file, path, follow_symlinks=False)
        except OSError:
            shutil.copyfile(file, path, follow_symlinks=False)
            return False
        return True

    def adopt_part(self, number: int, file: Path) -> None:
        """Copy `file`, a beginning of the selected file `number`, unless something is staged already."""
        path = self._paths[number]
        if not path.stat().st_blocks:
            shutil.copyfile(file, path, follow_symlinks=False)
            os.truncate(path, self._selected.files[number].size)

    def check_exchange(self) -> None:
        """Raise UsageError unless two directories can be exchanged on this file system."""
        pair = [Path(tempfile.mkdtemp(prefix="probe-", dir=self.directory)) for _ in range(2)]
        try:
            exchange(*pair)
        except OSError as error:
            raise UsageError(
                f"destination {str(self.destination)!r} cannot be replaced in one step: {error.strerror}",
                hint="its file system cannot exchange directories: fetch to a new directory",
            ) from None
        finally:
            for directory in pair:
                directory.rmdir()

    def flush(self) -> None:
        """Flush all files to the disk. Raises OSError; then those that failed are removed."""
        self.close()
        self._require_flushed()
        with ThreadPoolExecutor(_FLUSHES, thread_name_prefix="disk") as pool:
            for _ in pool.map(self._flush_file, self._paths):  # a file system commits several at once
                pass

    def _flush_file(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            sync_resumable(descriptor, path)
        except OSError as error:
            self.lost = self.lost or error
            raise
        finally:
            os.close(descriptor)

    def _require_flushed(self) -> None:
        if self.lost is not None:
            raise self.lost

    def finish(self, is_unchanged: Callable[[Path], bool] | None = None) -> None:
        """Publish everything, flushed before, at the destination.

        With `is_unchanged` it takes the place of the directory there, which is then removed. The test is made
        before the exchange, and again after it on the directory that was taken away. Raises UsageError, with
        the destination as it was, when it fails.
        """
        if not self._selected.is_file:
            for directory in reversed(self._selected.directories):
                sync_directory(self._content / directory)
            sync_directory(self._content)
        if is_unchanged is not None:
            self._replace(is_unchanged)
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        _check_destination(self.destination, self.directory, self._selected)
        if self._in_mount:
            move_into_mount(self._content, self.destination, self.directory)
        else:
            publish_atomically(self._content, self.destination)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _replace(self, is_unchanged: Callable[[Path], bool]) -> None:
        _check_replaceable(self.destination, self.directory)
        if is_unchanged(self.destination):
            self._content.chmod(stat.S_IMODE(self.destination.stat().st_mode))
            exchange(self._content, self.destination)
            if is_unchanged(self._content):
                sync_directory(self.destination.parent)
                sync_directory(self.directory)
                return
            exchange(self._content, self.destination)
        raise UsageError(
            f"destination {str(self.destination)!r} was changed during the fetch, and is left as it is",
            hint="run again when nothing writes to it; what was fetched is kept",
        )


@contextmanager
def open_staging(
    destination: Path, root: Cid, selected: SelectedFiles, *, replaces: bool = False
) -> Iterator[Staging]:
    """Create or reopen the staging directory of `root` for `destination`, and lock it while the body runs.

    It is kept when the body fails, without files that could not be flushed. With `replaces` the destination
    is a directory whose content may go. Raises UsageError when the destination has other content or cannot be
    replaced, LockedError while another process fetches the same root to the same destination, and
    ReconcilerError when the disk cannot be written, or when the staging directory belongs to another user.
    """
    name = _staging_name(destination, root)
    directory = destination / name if is_mount_point(destination) else destination.with_name(name)
    if replaces:
        _check_replaceable(destination, directory)
    else:
        _check_destination(destination, directory, selected)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        lock = _claim(directory, destination)
        staging = Staging(directory, destination, selected)
        try:
            yield staging
        except OSError as error:
            staging.close()  # a flush that is just failing has removed its file before it says why
            if staging.lost is None:
                raise
            raise ReconcilerError(
                f"cannot write {str(destination)!r}: the disk lost what was written to it "
                f"({staging.lost.strerror})",
                hint="check the disk, then run the same command again: it keeps the files that were not lost",
            ) from error
        finally:
            staging.close()
            os.close(lock)
    except OSError as error:
        hint = "choose a writable destination"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            hint = "the fetched part is kept; run the same command again when the disk can be written"
        raise ReconcilerError(f"cannot write {str(destination)!r}: {error.strerror}", hint=hint) from None


def _staging_name(destination: Path, root: Cid) -> str:
    """Return the name of the staging directory of `root`."""
    return f".{destination.name}.fetch-{str(root)[-16:]}"


def _check_destination(destination: Path, stage: Path, selected: SelectedFiles) -> None:
    """Raise UsageError unless the content of `stage` can be published at `destination`."""
    if stage.parent == destination and not selected.is_file:
        check_mount(destination, stage, selected.names)
        return
    check_free(destination, single_file=selected.is_file)
    _check_not_current(destination)


def _check_replaceable(destination: Path, stage: Path) -> None:
    """Raise UsageError when the directory at `destination` cannot be exchanged for another."""
    if stage.parent == destination:
        raise UsageError(
            f"destination {str(destination)!r} is not empty, and is a mount point, which cannot be replaced",
            hint="fetch to a new directory in it",
        )
    _check_not_current(destination)


def _check_not_current(destination: Path) -> None:
    if destination.is_dir() and destination.samefile("."):
        raise UsageError(
            f"destination {str(destination)!r} is the current directory, which would be replaced",
            hint="choose a directory that does not exist yet",
        )


def remove_leftover(mount: Path, root: Cid) -> None:
    """Remove the staging directory that a run left after it had moved everything into `mount`."""
    shutil.rmtree(mount / _staging_name(mount, root), ignore_errors=True)


def remove_staging(destination: Path, root: Cid) -> None:
    """Remove the staging directory of `root` beside a complete `destination`, unless a fetch uses it.

    A kill between the exchange and the end leaves the replaced directory in it.
    """
    directory = destination.with_name(_staging_name(destination, root))
    lock = lock_directory(directory) if directory.is_dir() and not directory.is_symlink() else None
    if lock is not None:
        if os.fstat(lock).st_uid == os.geteuid():
            shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _claim(directory: Path, destination: Path) -> int:
    """Create and lock the staging directory; return its descriptor.

    A directory of another user is refused: its owner could change files after they were verified. Raises
    LockedError, ReconcilerError, OSError.
    """
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    lock = lock_directory(directory)
    if lock is not None and _is_own_uid(os.fstat(lock).st_uid, directory.parent):
        return lock
    if lock is None and directory.is_dir() and not directory.is_symlink():
        raise LockedError(
            f"another process is fetching to {str(destination)!r}", hint="wait until it finishes, or stop it"
        )
    if lock is not None:
        os.close(lock)
    raise ReconcilerError(
        f"the staging directory {str(directory)!r} was not created by you",
        hint="remove it, or choose another destination",
    )


def _is_own_uid(owner: int, parent: Path) -> bool:
    """Return whether new files in `parent` are owned by `owner`; a file server may map users."""
    if owner == os.geteuid():
        return True
    probe = Path(tempfile.mkdtemp(prefix=".owner-", dir=parent))
    try:
        return probe.stat().st_uid == owner
    finally:
        probe.rmdir()


def holds_each(directory: Path, names: Sequence[str]) -> bool:
    """Return whether the file system of `directory` holds a file of each of these names. Raises OSError."""
    probe = Path(tempfile.mkdtemp(prefix=".names-", dir=directory))
    try:
        for name in names:
            (probe / name).touch()
        return len(list(probe.iterdir())) == len(names)
    finally:
        shutil.rmtree(probe)


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        path.mkdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
