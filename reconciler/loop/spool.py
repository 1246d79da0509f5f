"""The spool: a copy of a version on the disk, from which targets that need its root first get their bytes.

It is used where `spool: DIR` is set for a source, and no target that takes leaves meanwhile can serve them
afterwards. A file in DIR has the form of an unfinished CAR, so it proves each leaf itself, is continued after
a kill, and is used again by the next run. It is never flushed: each leaf is verified whenever it is used, and
read from the source where the disk lost it. It is removed at the end of a run after which nothing lacks the
version, when the version is streamed under another revision, and a week after its last change.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler import fs
from reconciler.content import profile
from reconciler.content.cid import RAW, Cid
from reconciler.content.dag import DagLayout
from reconciler.content.hashing import FileDigests
from reconciler.content.partial_car import PartialCar
from reconciler.content.provisional import ProvisionalLayout
from reconciler.content.scan import SourceFile
from reconciler.content.unixfs_tree import DIGEST_SIZE
from reconciler.errors import BundleError, LockedError, ReconcilerError
from reconciler.index.label import Label
from reconciler.targets.interface import IngestedBlock, Target

_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}\.spool")
_KEPT_SECONDS = 7 * 24 * 3600.0
_SPARE_BYTES = 1 << 20  # for the file system itself
_FULL = (errno.ENOSPC, errno.EDQUOT)
_HINT = (
    "free some space, set spool to a directory on a larger disk, or remove it: then the source is read twice"
)


@dataclass(frozen=True, slots=True)
class SpoolDirectory:
    """The directory `path` as `shown` in sources.yaml, with files of any number of repositories."""

    path: Path
    shown: str

    @classmethod
    def below(cls, root: Path, shown: str) -> SpoolDirectory:
        """Return the directory `shown`, relative to `root`. Raises BundleError for one that leaves it."""
        if not Path(shown).is_absolute() and (link := fs.escaping_link(root, shown)) is not None:
            raise BundleError(
                f"the spool {shown!r} leads outside the repository through the link {link!r}",
                hint="set spool in releases/sources.yaml to the absolute path of the directory",
            )
        return cls(root / shown, shown)

    def begin(self, label: Label, key: str, layout: DagLayout) -> SpoolFile:
        """Open the file of a version with its provisional `layout`, new or left by an interrupted run.

        Other files of the same version are removed, and those that nothing used for a week. Raises
        ReconcilerError when DIR cannot be written or the disk is too small, LockedError when another run
        writes the file.
        """
        path = self._file(label, key)
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sweep(label, path.name)
            with suppress(FileNotFoundError):
                self._require_space(layout.car_size - path.lstat().st_blocks * 512)
                return self._open(path, os.O_RDWR, layout)
            self._require_space(layout.car_size)
            return self._open(path, os.O_RDWR | os.O_CREAT, layout)

    def find(self, label: Label, key: str, layout: DagLayout) -> SpoolFile | None:
        """Open the file of a version that an earlier run left; None without one that can be used."""
        try:
            return self._open(self._file(label, key), os.O_RDWR, layout)
        except (OSError, ReconcilerError):
            return None

    def has(self, label: Label, key: str) -> bool:
        """Return whether there is a file of a version."""
        return self._file(label, key).is_file()

    def discard(self, label: Label) -> None:
        """Remove all files of a version, except those that another run writes. Failing to is not an error."""
        for path in self._files():
            if path.name.startswith(_owner(label)):
                _remove(path)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an OSError into one error for the user."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise ReconcilerError(f"no space left in the spool {self.shown!r}", hint=_HINT) from None
            raise ReconcilerError(
                f"cannot write to the spool {self.shown!r}: {error.strerror or error}",
                hint="correct spool in releases/sources.yaml, or remove it",
            ) from None

    def _require_space(self, size: int) -> None:
        free = shutil.disk_usage(self.path).free
        if size + _SPARE_BYTES > free:
            raise ReconcilerError(
                f"the spool {self.shown!r} needs {size} more bytes; {free} are free", hint=_HINT
            )

    def _open(self, path: Path, flags: int, layout: DagLayout) -> SpoolFile:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if not fs.try_lock(descriptor):
                raise LockedError(
                    f"another process writes the same version to the spool {self.shown!r}",
                    hint="run again when the other process has finished",
                )
            return SpoolFile(self, descriptor, layout)
        except BaseException:
            os.close(descriptor)
            raise

    def _sweep(self, label: Label, kept: str) -> None:
        now = time.time()
        for path in self._files():
            with suppress(OSError):
                is_old = path.lstat().st_mtime < now - _KEPT_SECONDS
                if path.name != kept and (is_old or path.name.startswith(_owner(label))):
                    _remove(path)

    def _files(self) -> list[Path]:
        with suppress(OSError):
            return [path for path in self.path.iterdir() if _NAME.fullmatch(path.name)]
        return []

    def _file(self, label: Label, key: str) -> Path:
        return self.path / f"{_owner(label)}{key}.spool"


class SpoolFile:
    """An open, locked file of the spool, which takes the leaves of a pass as a target does."""

    streams = 1  # the system writes to one file in turn

    def __init__(self, directory: SpoolDirectory, descriptor: int, layout: DagLayout) -> None:
        self._directory = directory
        self._descriptor: int | None = descriptor
        self._car = PartialCar(descriptor, layout)

    def held(self, position: int, cid: Cid | None) -> bytes | None:  # noqa: ARG002  a section has its CID
        """Implement LeafSession.held."""
        return self._car.held(position)

    def put(self, blocks: Sequence[IngestedBlock]) -> None:
        """Implement LeafSession.put. Raises ReconcilerError."""
        with self._directory.writing():
            self._car.put([(block.position, block.cid, block.data) for block in blocks])

    def leaf(self, position: int, cid: Cid) -> bytes | None:
        """Return the leaf `cid` at `position`, verified; None when the file lacks it, or was closed."""
        return None if self._descriptor is None else self._car.leaf(position, cid)

    def close(self) -> None:
        """Close the file, which stays. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class SpooledLeaves:
    """The leaves of a version in its file of the spool; `digests` are those of the files, by path."""

    file: SpoolFile
    expected: ProvisionalLayout
    digests: Mapping[str, FileDigests]

    def read(self, source: SourceFile, size: int, offset: int) -> bytes | None:
        """Return the leaf that begins at `offset`; None when that is not a leaf, or the spool lacks it."""
        number, inside = divmod(offset, profile.CHUNK_SIZE)
        if inside or size != min(profile.CHUNK_SIZE, source.stamp.size - offset):
            return None
        digest = self.digests[source.path].leaves[DIGEST_SIZE * number : DIGEST_SIZE * (number + 1)]
        return self.file.leaf(self.expected.position(source, number), Cid(RAW, digest))


def needs_spool(targets: Collection[Target], taking: Collection[str]) -> bool:
    """Return whether bytes are read again after a pass in which the targets named `taking` take the leaves.

    Without any targets, the pass only identifies the version for a later run.
    """
    serving = any(each.name in taking and each.capabilities.serves_blocks for each in targets)
    later = any(each.name not in taking and each.capabilities.takes_bytes for each in targets)
    return not serving and (later or not targets)


def _owner(label: Label) -> str:
    """Return how the names of the files of a version begin."""
    return hashlib.sha256(str(label).encode()).hexdigest()[:16] + "-"


def _remove(path: Path) -> None:
    """Remove a file that no process has locked."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if fs.try_lock(descriptor):
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
