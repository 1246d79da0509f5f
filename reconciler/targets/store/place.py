"""Where the files of a store lie, which of their names mean something, and which format they have.

    store.json          {"store": "reconciler", "format": 1}, written first of all
    cars/<root>.car     the canonical CARv1 of one root: any IPFS tool imports it
    cars/<root>.idx     its block index (content/layout_file.py)
    labels/<root>.json  what the store promises about the root (entry.py); written last, removed first
    labels/<root>.removing   the same file while the root is being removed; the next writer finishes that
    tmp/                files being written; each is locked by the process that writes it
    lock                held by whoever changes anything but tmp/

Every name is made from a parsed CID, so no path can leave the directory.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError, PeerError
from reconciler.targets.store import staging

FORMAT = 1
_FORMAT_FILE = "store.json"
_OURS = frozenset((_FORMAT_FILE, "cars", "labels", "tmp", "lock"))
_CAR, _INDEX, _ENTRY, _REMOVING = ".car", ".idx", ".json", ".removing"


@dataclass(slots=True)
class StoreListing:
    """One look at the names and sizes in a store.

    `cars` and `indexes` give bytes by root, None for something that is no regular file; `entries` are the
    roots with a label file, `removing` those whose removal was begun; `strays` are relative paths that belong
    to no root.
    """

    cars: dict[Cid, int | None] = field(default_factory=dict)
    indexes: dict[Cid, int | None] = field(default_factory=dict)
    entries: set[Cid] = field(default_factory=set)
    removing: set[Cid] = field(default_factory=set)
    strays: list[str] = field(default_factory=list)


class StoreDirectory:
    """The directory of one store. Nothing is created until `create`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cars = directory / "cars"
        self.labels = directory / "labels"
        self.tmp = directory / "tmp"
        self.lock = directory / "lock"

    def car(self, root: Cid) -> Path:
        """The CAR of `root`."""
        return self.cars / f"{root}{_CAR}"

    def index(self, root: Cid) -> Path:
        """The block index of `root`."""
        return self.cars / f"{root}{_INDEX}"

    def entry(self, root: Cid) -> Path:
        """The label file of `root`."""
        return self.labels / f"{root}{_ENTRY}"

    def removing(self, root: Cid) -> Path:
        """The label file of `root` while it is being removed."""
        return self.labels / f"{root}{_REMOVING}"

    @contextmanager
    def opened_car(self, root: Cid, flags: int = os.O_RDONLY) -> Iterator[int]:
        """The CAR of `root` as a file descriptor. Raises OSError, also for a symlink."""
        fd = self.open_car(root, flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def open_car(self, root: Cid, flags: int = os.O_RDONLY) -> int:
        """The same, closed by the caller."""
        return os.open(self.car(root), flags | os.O_NOFOLLOW | os.O_CLOEXEC)

    def exists(self) -> bool:
        """Whether there is a store here; False when nothing is, or an empty directory.

        Raises PeerError when something else is here, or a store of a newer format, or it cannot be read.
        """
        try:
            names = {entry.name for entry in os.scandir(self.directory)}
        except FileNotFoundError:
            return False
        except OSError as error:
            raise PeerError(f"cannot read the store at {str(self.directory)!r}: {error.strerror}") from None
        if _FORMAT_FILE in names:
            self._check_format()
            return True
        if foreign := sorted(names - _OURS):
            raise PeerError(
                f"{str(self.directory)!r} is not a store: it holds {foreign[0]!r} and no {_FORMAT_FILE}",
                hint="give the store a directory of its own, or a new one",
            )
        return "cars" in names

    def create(self) -> None:
        """Make the store, or what is missing of it. The caller has called `exists`."""
        for directory in (self.directory, self.cars, self.labels, self.tmp):
            directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / _FORMAT_FILE
        if not path.exists():
            text = json.dumps({"store": "reconciler", "format": FORMAT}) + "\n"
            staging.write_file(path, text.encode(), self.tmp / f"{_FORMAT_FILE}.{os.getpid()}")
            staging.sync_directory(self.directory.parent)

    def listing(self) -> StoreListing:
        """Every name in labels/ and cars/, with sizes. Raises PeerError when a directory cannot be read.

        Labels come first: they are written last, so that a publish under way never looks like a lost CAR.
        """
        found = StoreListing()
        for entry in self._scan(self.labels):
            root, suffix = _split(entry.name)
            if root is not None and suffix in (_ENTRY, _REMOVING):
                (found.entries if suffix == _ENTRY else found.removing).add(root)
            else:
                found.strays.append(f"labels/{entry.name}")
        for entry in self._scan(self.cars):
            root, suffix = _split(entry.name)
            if root is None or suffix not in (_CAR, _INDEX):
                found.strays.append(f"cars/{entry.name}")
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed since it was listed
                continue
            sizes = found.cars if suffix == _CAR else found.indexes
            sizes[root] = status.st_size if stat.S_ISREG(status.st_mode) else None
        return found

    def interrupted_removals(self) -> set[Cid]:
        """Roots whose removal was begun and not finished."""
        return {
            root
            for entry in self._scan(self.labels)
            if entry.name.endswith(_REMOVING) and (root := _split(entry.name)[0]) is not None
        }

    def _scan(self, directory: Path) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(directory) as entries:
                yield from entries
        except FileNotFoundError:
            return
        except OSError as error:
            raise PeerError(f"cannot read the store at {str(directory)!r}: {error.strerror}") from None

    def _check_format(self) -> None:
        path = self.directory / _FORMAT_FILE
        try:
            content = json.loads(path.read_bytes())
            kind, number = content["store"], content["format"]
        except OSError as error:
            raise PeerError(f"cannot read {str(path)!r}: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise PeerError(
                f"{str(path)!r} is damaged", hint="delete this one file: the next run writes it again"
            ) from None
        if kind != "reconciler" or type(number) is not int or number < 1:
            raise PeerError(f"{str(path)!r} describes no store of ours")
        if number > FORMAT:
            raise PeerError(
                f"the store at {str(self.directory)!r} has format {number}; this version knows {FORMAT}",
                hint="upgrade model-reconciler, or give this version a store of its own",
            )


def _split(name: str) -> tuple[Cid | None, str]:
    """The root that a file name speaks of (None: not canonical) and its suffix with the dot."""
    stem, dot, suffix = name.rpartition(".")
    return _root(stem), dot + suffix


@lru_cache(maxsize=4096)
def _root(text: str) -> Cid | None:  # each root has three names in a listing
    try:
        return cids.parse_canonical(text)
    except DataError:
        return None
