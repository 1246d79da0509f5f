"""The directory of a store: its paths, the meaning of file names, and its format.

    store.json          {"store": "reconciler", "format": 1}, written first
    cars/<root>.car     the canonical CARv1 of one root; any IPFS tool can import it
    cars/<root>.idx     its block index (content/layout_file.py)
    labels/<root>.json  the label file of the root (labels.py); written last, removed first
    labels/<root>.removing   the label file while the root is being removed; the next writer finishes that
    tmp/                files being written; each is locked by the process that writes it
    lock                locked by the process that changes anything outside tmp/

Every name is made from a parsed CID, so no path leads out of the directory.
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

from reconciler import fs
from reconciler.content import cid as cids
from reconciler.content.cid import Cid
from reconciler.errors import DataError, PeerError
from reconciler.json_fields import JsonFields, load_json

FORMAT = 1
_FORMAT_FILE = "store.json"
_OURS = frozenset((_FORMAT_FILE, "cars", "labels", "tmp", "lock"))
_CAR, _INDEX, _LABELS, _REMOVING = ".car", ".idx", ".json", ".removing"


@dataclass(slots=True)
class StoreListing:
    """The names and sizes of all files in a store.

    `cars` and `indexes` map roots to bytes, to None for anything but a regular file. `labelled` maps the
    roots with a label file to its name, `removing` are those whose removal was begun. `strays` are relative
    paths that belong to no root.
    """

    cars: dict[Cid, int | None] = field(default_factory=dict)
    indexes: dict[Cid, int | None] = field(default_factory=dict)
    labelled: dict[Cid, str] = field(default_factory=dict)
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
        """Return the path of the CAR of `root`."""
        return self.cars / f"{root}{_CAR}"

    def index(self, root: Cid) -> Path:
        """Return the path of the block index of `root`."""
        return self.cars / f"{root}{_INDEX}"

    def label_file(self, root: Cid) -> Path:
        """Return the path of the label file of `root`."""
        return self.labels / f"{root}{_LABELS}"

    def removing(self, root: Cid) -> Path:
        """Return the path of the label file of `root` while the root is being removed."""
        return self.labels / f"{root}{_REMOVING}"

    @contextmanager
    def opened_car(self, root: Cid, flags: int = os.O_RDONLY) -> Iterator[int]:
        """Open the CAR of `root` while the body runs. Raises OSError, also for a symlink."""
        fd = self.open_car(root, flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def open_car(self, root: Cid, flags: int = os.O_RDONLY) -> int:
        """Open the CAR of `root`; the caller closes the descriptor. Raises OSError, also for a symlink."""
        return os.open(self.car(root), flags | os.O_NOFOLLOW | os.O_CLOEXEC)

    def exists(self) -> bool:
        """Return whether there is a store; False when the directory is missing or empty.

        Raises PeerError for a directory with other files, for a newer format, and when it cannot be read.
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
                f"{str(self.directory)!r} is not a store: it contains {foreign[0]!r} and no {_FORMAT_FILE}",
                hint="use a new or an empty directory for the store",
            )
        return "cars" in names

    def create(self) -> None:
        """Create the store, or the missing parts of it. Call `exists` before."""
        for directory in (self.directory, self.cars, self.labels, self.tmp):
            directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / _FORMAT_FILE
        if not path.exists():
            text = json.dumps({"store": "reconciler", "format": FORMAT}) + "\n"
            fs.replace_file(path, text.encode(), staging=self.tmp / f"{_FORMAT_FILE}.{os.getpid()}")
            fs.sync_directory(self.directory.parent)

    def listing(self) -> StoreListing:
        """List labels/ and cars/, with sizes. Raises PeerError when a directory cannot be read.

        Labels are listed first. They are written last, so a publish in progress never looks like a lost CAR.
        """
        found = StoreListing()
        for entry in self._scan(self.labels):
            root, suffix = _split(entry.name)
            if root is not None and suffix == _LABELS:
                found.labelled[root] = entry.name
            elif root is not None and suffix == _REMOVING:
                found.removing.add(root)
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
        """Return the roots whose removal was begun and not finished."""
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
            fields = JsonFields(load_json(path.read_bytes()), ValueError)
            if not fields.mapping().keys() >= {"store", "format"}:
                raise ValueError("fields are missing")
        except OSError as error:
            raise PeerError(f"cannot read {str(path)!r}: {error.strerror}") from None
        except ValueError:
            raise PeerError(
                f"{str(path)!r} is damaged", hint="delete this one file: the next run writes it again"
            ) from None
        kind, number = fields.at("store").value, fields.at("format").value
        if kind != "reconciler" or type(number) is not int or number < 1:
            raise PeerError(f"{str(path)!r} describes another kind of store")
        if number > FORMAT:
            raise PeerError(
                f"the store at {str(self.directory)!r} has format {number}; this version reads {FORMAT}",
                hint="upgrade model-reconciler, or give this version a store of its own",
            )


def _split(name: str) -> tuple[Cid | None, str]:
    """Split a file name into the root (None if it is not a canonical CID) and the suffix with its dot."""
    stem, dot, suffix = name.rpartition(".")
    return _root(stem), dot + suffix


@lru_cache(maxsize=4096)
def _root(text: str) -> Cid | None:  # each root has three names in a listing
    try:
        return cids.parse_canonical(text)
    except DataError:
        return None
