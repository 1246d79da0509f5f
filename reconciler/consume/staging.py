"""A destination that is a mount point: it cannot be replaced, so finished files are moved into it one by one.

That takes a moment in which a kill leaves some of them there. A mark in the staging directory, which lies in
the mount as well, tells the next run to take them back first, so that it ends like any other.

What is verified so far, beside the destination: kept across interruptions, and never taken on trust.

`.<name>.fetch-<end of the root>` in the destination's parent (in the destination itself where that is a mount
point) holds the files in their full length, with holes where nothing was fetched yet. There is no journal: a
run that goes on hashes what is there and keeps what gives its CIDs, so that neither a kill nor a lost page
can put a wrong byte into the destination.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from reconciler.consume.sources import Parts
from reconciler.consume.wanted import FileSpan, WantedFiles
from reconciler.content.cid import RAW, Cid
from reconciler.content.destination import appear, check_free, lock_directory, sync_directory
from reconciler.content.walk import DagMap, FileNode, Leaf, leaf_bytes
from reconciler.errors import DataError, LockedError, ReconcilerError, UsageError
from reconciler.progress import Task

_OWN = "lost+found"  # the file system's own directory at its top
_MARK = "moving"
_MOUNTS = Path("/proc/self/mountinfo")


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at `path` itself, also a directory of the same file system."""
    if path.is_symlink():
        return False
    if os.path.ismount(path):
        return True
    real = os.fsencode(os.path.realpath(path))
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return False
    # proc_pid_mountinfo(5): the fifth field is the mount point, with octal escapes
    return any(_unescaped(line.split(b" ")[4]) == real for line in lines if line.count(b" ") > 4)


def entries(mount: Path, stage: Path, names: Collection[str]) -> list[str]:
    """What lies in `mount` besides staging directories; while the mark is in `stage`, also besides what came
    from there.
    """
    ours = names if (stage / _MARK).exists() else ()
    return sorted(e.name for e in mount.iterdir() if e.name not in ours and not is_own(e.name, mount))


def check_empty(mount: Path, stage: Path, names: Collection[str]) -> None:
    """Raise UsageError where `mount` holds anything else than what `stage` put there."""
    found = entries(mount, stage, names)
    if found:
        raise UsageError(
            f"destination {str(mount)!r} is not empty: it has {found[0]!r}",
            hint="it is a mount point, which cannot be replaced; fetch to a new directory in it",
        )


def stage_name(destination: Path, root: Cid) -> str:
    """The name of the directory in which what is fetched of `root` is staged."""
    return f".{destination.name}.fetch-{str(root)[-16:]}"


def is_own(path: str, mount: Path) -> bool:
    """Whether `path`, relative to a mount point, is the file system's own, or staged there."""
    top = path.partition("/")[0]
    return top == _OWN or top.startswith(f".{mount.name}.fetch-")


def move_in(content: Path, mount: Path, stage: Path) -> None:
    """Move every entry of `content` into `mount`. Raises OSError."""
    (stage / _MARK).touch()
    sync_directory(stage)
    for entry in sorted(content.iterdir()):
        entry.rename(mount / entry.name)
    sync_directory(mount)


def tidy(mount: Path, root: Cid) -> None:
    """Remove the staging directory of a `move_in` that came to its end but for that."""
    shutil.rmtree(mount / stage_name(mount, root), ignore_errors=True)


def take_back(content: Path, mount: Path, stage: Path, names: Collection[str]) -> None:
    """Undo a `move_in` that did not come to its end. Raises OSError."""
    if not (stage / _MARK).exists():
        return
    content.mkdir(exist_ok=True)
    for name in names:
        if os.path.lexists(mount / name) and not os.path.lexists(content / name):
            (mount / name).rename(content / name)
    (stage / _MARK).unlink()


def _unescaped(field: bytes) -> bytes:
    return field.decode("unicode_escape").encode("latin-1") if b"\\" in field else field


_CONTENT = "content"
_WRITE_OUT = 64 << 20  # bytes after which the disk begins, so that the end has not to wait for all of them
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """The staged files of one root for one destination; made by `staged`."""

    def __init__(self, directory: Path, destination: Path, wanted: WantedFiles) -> None:
        self.destination = destination
        self.directory = directory
        self._inside = directory.parent == destination
        self._content = directory / _CONTENT
        self._wanted = wanted
        self._paths = [self._content / node.path if node.path else self._content for node in wanted.files]
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._unwritten = 0

    def path(self, number: int) -> Path:
        """Where the wanted file `number` is staged."""
        return self._paths[number]

    def prepare(self) -> None:
        """Make what is wanted, in full length, and remove everything else that lies here."""
        if self._inside:
            take_back(self._content, self.destination, self.directory, self._wanted.names)
        wanted = {self._content, *self._paths, *(self._content / path for path in self._wanted.directories)}
        for parent, directories, files in os.walk(self.directory):
            for name in (*directories, *files):
                path = Path(parent, name)
                if path not in wanted or path.is_symlink():
                    _remove(path)
        if not self._wanted.is_file:
            _make_directory(self._content)
        for directory in self._wanted.directories:
            _make_directory(self._content / directory)
        for number, (node, path) in enumerate(zip(self._wanted.files, self._paths, strict=True)):
            if path.is_dir():
                shutil.rmtree(path)
            # A file shared with the cache is not written to: it is taken from there again, or fetched.
            if not path.exists() or path.stat().st_size != node.size or path.stat().st_nlink > 1:
                self.blank(number)

    def blank(self, number: int) -> None:
        """Make the wanted file `number` anew: one hole in full length, shared with nobody."""
        path = self._paths[number]
        path.unlink(missing_ok=True)
        descriptor = os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.truncate(descriptor, self._wanted.files[number].size)
        finally:
            os.close(descriptor)

    def write(self, places: Sequence[FileSpan], position: int, block: Parts) -> None:
        """Put the verified `block` at `position` of the layout where it belongs.

        Raises DataError when the tree says another length of it, OSError.
        """
        layout = self._wanted.map.layout
        data = block if layout.is_leaf(position) else (leaf_bytes(layout, position, b"".join(block)),)
        size = sum(map(len, data))
        for place in places:
            if size != place.size:
                name = self._wanted.files[place.file].path
                raise DataError(
                    f"{name!r} at byte {place.offset}: a leaf of {size} bytes, "
                    f"but the node above it says {place.size}"
                )
            descriptor = os.open(self._paths[place.file], _WRITE)
            try:
                offset = place.offset
                for part in data:
                    view = memoryview(part)
                    while view:
                        written = os.pwrite(descriptor, view, offset)
                        view, offset = view[written:], offset + written
            finally:
                os.close(descriptor)
            self._unwritten += size  # a lost count between threads only moves the next write-out
            if self._unwritten >= _WRITE_OUT:
                self._unwritten = 0
                self._writer.submit(_sync_file, self._paths[place.file])

    def close(self) -> None:
        """Wait for what is being written out."""
        self._writer.shutdown(cancel_futures=True)

    def finish(self) -> None:
        """Make everything last, and let it appear at the destination, whole."""
        self.close()
        for path in self._paths:
            _sync_file(path)
        if not self._wanted.is_file:
            for directory in reversed(self._wanted.directories):
                sync_directory(self._content / directory)
            sync_directory(self._content)
        check_destination(self.destination, self.directory, self._wanted)
        if self._inside:
            move_in(self._content, self.destination, self.directory)
        else:
            appear(self._content, self.destination)
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def staged(destination: Path, root: Cid, wanted: WantedFiles) -> Iterator[Staging]:
    """The staging directory of `root` for `destination`, ours while the block runs; kept when it fails.

    Raises UsageError where the destination holds something else, LockedError while another process fetches
    the same to the same place, ReconcilerError when the disk does not take it, or what lies there is not
    ours.
    """
    name = stage_name(destination, root)
    directory = destination / name if is_mount_point(destination) else destination.with_name(name)
    check_destination(destination, directory, wanted)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        lock = _claim(directory, destination)
        staging = Staging(directory, destination, wanted)
        try:
            yield staging
        finally:
            staging.close()
            os.close(lock)
    except OSError as error:
        hint = "choose a destination that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            hint = "what was fetched is kept; run the same again when the disk takes more"
        raise ReconcilerError(f"cannot write {str(destination)!r}: {error.strerror}", hint=hint) from None


def check_destination(destination: Path, stage: Path, wanted: WantedFiles) -> None:
    """Raise UsageError unless what is finished in `stage` can appear at `destination`."""
    if stage.parent == destination and not wanted.is_file:
        check_empty(destination, stage, wanted.names)
        return
    check_free(destination, single_file=wanted.is_file)
    if destination.is_dir() and destination.samefile("."):
        raise UsageError(
            f"destination {str(destination)!r} is the directory you are in, which would be replaced",
            hint="name a directory that does not exist yet",
        )


def _claim(directory: Path, destination: Path) -> int:
    """Make and lock the staging directory; its descriptor. Raises LockedError, ReconcilerError, OSError.

    Somebody who may write to the parent may have put another one there: what lies in that could be changed
    after it was verified.
    """
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    lock = lock_directory(directory)
    if lock is not None and _is_ours(os.fstat(lock).st_uid, directory.parent):
        return lock
    if lock is None and directory.is_dir() and not directory.is_symlink():
        raise LockedError(
            f"another process is fetching to {str(destination)!r}", hint="let it finish, or stop it"
        )
    if lock is not None:
        os.close(lock)
    raise ReconcilerError(
        f"{str(directory)!r}, where this fetch would keep what it has, was not made by you",
        hint="remove it, or choose another destination",
    )


def _is_ours(owner: int, parent: Path) -> bool:
    """Whether `owner` is who owns what we make in `parent`: a file server may call us by another name."""
    if owner == os.geteuid():
        return True
    probe = Path(tempfile.mkdtemp(prefix=".owner-", dir=parent))
    try:
        return probe.stat().st_uid == owner
    finally:
        probe.rmdir()


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        path.mkdir()


def present(wanted: WantedFiles, paths: Sequence[Path], task: Task) -> Mapping[int, int]:
    """How many places of each block hold its bytes already, by hashing what is there; holes cost nothing."""
    found: dict[int, int] = {}
    for number, path in enumerate(paths):
        if not path.is_file() or path.is_symlink() or path.stat().st_size != wanted.files[number].size:
            task.advance(wanted.files[number].size)
            continue
        for leaf, good in leaf_states(wanted.map, wanted.files[number], path):
            if good:
                found[leaf.position] = found.get(leaf.position, 0) + 1
            task.advance(leaf.size)
    return found


def leaf_states(dag_map: DagMap, node: FileNode, path: Path) -> Iterator[tuple[Leaf, bool]]:
    """Each leaf of `node`, and whether the file at `path`, of the same length, holds it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for leaf in dag_map.leaves(node):
            cid = dag_map.layout.cid(leaf.position)
            if cid.codec != RAW:  # bytes within a tree block: not in our profile, and few
                yield leaf, not leaf.size
            elif _is_hole(descriptor, leaf.offset, leaf.size):
                yield leaf, cid.digest == _zeros(leaf.size)
            else:
                yield leaf, cid.matches(os.pread(descriptor, leaf.size, leaf.offset))
    finally:
        os.close(descriptor)


def _is_hole(descriptor: int, offset: int, size: int) -> bool:
    """Whether no byte of a stretch was ever written, as far as the file system tells."""
    if not size:
        return False
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) >= offset + size
    except OSError:
        return True  # ENXIO: nothing but a hole from here on


@lru_cache(maxsize=4)
def _zeros(size: int) -> bytes:
    return hashlib.sha256(bytes(size)).digest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
