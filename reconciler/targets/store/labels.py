"""The label file of one root: what the store promises about it, and for whom.

It is the commit point: a CAR without it counts as incomplete. A repair sets `repairing` before the first byte
changes, so a repair that was killed is seen without reading the CAR.

What a store promises about its roots: making, changing and taking back, in the order that is safe.

All of these are called by whoever holds the lock of the store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.content import cid as cids
from reconciler.content import layout_file
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import DataError
from reconciler.targets.store import staging
from reconciler.targets.store.place import StoreDirectory

_SCHEMA = 1
_MAX_BYTES = 1 << 20
_KEYS = frozenset(("schema", "root", "car_size", "index_size", "labels", "repairing"))


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What the store promises: the exact bytes of CAR and block index, and the labels, sorted."""

    root: Cid
    car_size: int
    index_size: int
    labels: tuple[str, ...]
    repairing: bool = False

    def to_bytes(self) -> bytes:
        """The file; the same entry always gives the same bytes."""
        content = {
            "schema": _SCHEMA,
            "root": str(self.root),
            "car_size": self.car_size,
            "index_size": self.index_size,
            "labels": list(self.labels),
            "repairing": self.repairing,
        }
        return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def read(path: Path, root: Cid) -> LabelFile | None:
    """The entry of `root` at `path`, or None when there is none. Raises DataError when it does not hold."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"label file cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise DataError("label file is too large")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError("label file is not JSON") from None
    if not isinstance(content, dict) or content.keys() != _KEYS or content["schema"] != _SCHEMA:
        raise DataError("label file has other fields than this version knows")
    labels, sizes = content["labels"], (content["car_size"], content["index_size"])
    if (
        not isinstance(labels, list)
        or not labels
        or not all(isinstance(label, str) and label for label in labels)
    ):
        raise DataError("label file has no labels, or some that are not text")
    if any(type(size) is not int or size < 0 for size in sizes) or type(content["repairing"]) is not bool:
        raise DataError("label file has a value of the wrong kind")
    if not isinstance(content["root"], str) or cids.parse_canonical(content["root"]) != root:
        raise DataError("label file speaks of another root")
    return LabelFile(root, *sizes, tuple(labels), content["repairing"])


class Labels:
    """The label files and block indexes of one store."""

    def __init__(self, place: StoreDirectory) -> None:
        self._place = place

    def entry(self, root: Cid) -> LabelFile | None:
        """The entry of `root`; a damaged label file counts as none, since nothing in it can be believed."""
        try:
            return read(self._place.entry(root), root)
        except DataError:
            return None

    def hold(self, layout: DagLayout) -> bool:
        """Whether the store's own promise about this DAG holds, as far as sizes tell."""
        entry = self.entry(layout.root)
        try:
            car_size = self._place.car(layout.root).lstat().st_size
            index_size = self._place.index(layout.root).lstat().st_size
        except FileNotFoundError:
            return False
        return (
            entry is not None
            and not entry.repairing
            and car_size == entry.car_size == layout.car_size
            and index_size == entry.index_size
        )

    def make(self, layout: DagLayout, label: str) -> None:
        """Vouch for a complete CAR under `label` and the labels it had: the index first, then the entry."""
        index = layout_file.layout_to_bytes(layout)
        path = self._place.index(layout.root)
        if not path.is_file() or path.read_bytes() != index:
            staging.write_file(path, index, self._place.tmp / path.name)
        before = self.entry(layout.root)
        labels = {label} | set(before.labels if before else ())
        self.write(LabelFile(layout.root, layout.car_size, len(index), tuple(sorted(labels))))
        staging.remove(self._place.removing(layout.root))

    def add_label(self, root: Cid, label: str) -> None:
        """Put `label` beside the others; nothing happens to a root without an entry."""
        entry = self.entry(root)
        if entry is not None and label not in entry.labels:
            self.write(replace(entry, labels=tuple(sorted({*entry.labels, label}))))

    def write(self, entry: LabelFile) -> None:
        """Put `entry` in place of the one that is there, unless they are equal."""
        path = self._place.entry(entry.root)
        data = entry.to_bytes()
        if not path.is_file() or path.read_bytes() != data:
            staging.write_file(path, data, self._place.tmp / path.name)

    def finish_removal(self, root: Cid) -> None:
        """Remove what `removing` still marks; a root that got a label meanwhile only loses the mark."""
        if not self._place.entry(root).exists():
            staging.remove(self._place.car(root))
            staging.remove(self._place.index(root))
        staging.remove(self._place.removing(root))

    def begin_removal(self, root: Cid) -> None:
        """Take the promise back, before anything it is about goes."""
        self._place.entry(root).replace(self._place.removing(root))
        staging.sync_directory(self._place.labels)
