"""Label files: one per root, with the labels of the root and the sizes of its files.

The label file is the commit point: a CAR without one counts as incomplete. A repair sets `repairing` before
the first byte changes, so a repair that was killed is recognized without reading the CAR. Publishing writes
the block index, then the label file; removal renames the label file first, then removes CAR and index. All
methods that change something are called under the lock of the store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler import fs
from reconciler.content import cid as cids
from reconciler.content import layout_file
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import DataError
from reconciler.index.label import Label
from reconciler.json_fields import JsonFields, load_json
from reconciler.targets.store import staging
from reconciler.targets.store.directory import StoreDirectory

_SCHEMA = 1
_MAX_BYTES = 1 << 20
_KEYS = frozenset(("schema", "root", "car_size", "index_size", "labels", "repairing"))


@dataclass(frozen=True, slots=True)
class LabelFile:
    """The content of a label file: the exact sizes of CAR and block index in bytes, and the sorted labels.

    The labels may be those of other programs.
    """

    root: Cid
    car_size: int
    index_size: int
    labels: tuple[str, ...]
    repairing: bool = False

    def to_bytes(self) -> bytes:
        """Return the bytes of the file; equal values give equal bytes."""
        content = {
            "schema": _SCHEMA,
            "root": str(self.root),
            "car_size": self.car_size,
            "index_size": self.index_size,
            "labels": list(self.labels),
            "repairing": self.repairing,
        }
        return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def read(path: Path | str, root: Cid) -> LabelFile | None:
    """Read the label file of `root` at `path`; None when there is none. Raises DataError if it is invalid."""
    try:
        data = fs.read_start(path, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"label file cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise DataError(f"label file is larger than {_MAX_BYTES} bytes")
    try:
        content = load_json(data)
    except ValueError as error:
        raise DataError(f"label file is not JSON: {error}") from None
    return _parse(JsonFields(content, _invalid), root)


def _parse(fields: JsonFields, root: Cid) -> LabelFile:
    found = fields.mapping()
    if found.keys() != _KEYS or fields.number("schema") != _SCHEMA:
        raise _invalid("it has other fields than this version knows")
    sizes = fields.number("car_size"), fields.number("index_size")
    if min(sizes) < 0:
        raise _invalid("a size is negative")
    labels = tuple(item.text() for item in fields.items("labels"))
    if not labels or not all(labels):
        raise _invalid("it has no labels, or an empty one")
    if found["repairing"] is None:
        raise fields.error("true or false", "repairing")
    if fields.text("root") != str(root) and cids.parse_canonical(fields.text("root")) != root:
        raise _invalid("it names another root")
    return LabelFile(root, *sizes, labels, fields.flag("repairing"))


def _invalid(message: str) -> DataError:
    return DataError(f"label file is invalid: {message}")


class Labels:
    """The label files and block indexes of one store."""

    def __init__(self, directory: StoreDirectory) -> None:
        self._directory = directory

    def read(self, root: Cid) -> LabelFile | None:
        """Read the label file of `root`; None when it is missing or damaged."""
        try:
            return read(self._directory.label_file(root), root)
        except DataError:
            return None

    def is_complete(self, layout: DagLayout) -> bool:
        """Return whether the store has a labelled CAR of this DAG, judged by sizes only; reads no block."""
        entry = self.read(layout.root)
        try:
            car_size = self._directory.car(layout.root).lstat().st_size
            index_size = self._directory.index(layout.root).lstat().st_size
        except FileNotFoundError:
            return False
        return (
            entry is not None
            and not entry.repairing
            and car_size == entry.car_size == layout.car_size
            and index_size == entry.index_size
        )

    def commit(self, layout: DagLayout, label: Label) -> None:
        """Put `label` and the labels it had on a complete CAR: write the block index, then the label file."""
        index = layout_file.layout_to_bytes(layout)
        self._replace(self._directory.index(layout.root), index)
        before = self.read(layout.root)
        labels = {label, *(before.labels if before else ())}
        self.write(LabelFile(layout.root, layout.car_size, len(index), tuple(sorted(labels))))
        staging.remove(self._directory.removing(layout.root))

    def add_label(self, root: Cid, label: Label) -> None:
        """Add `label` to the labels of `root`; does nothing for a root without a label file."""
        entry = self.read(root)
        if entry is not None and label not in entry.labels:
            self.write(replace(entry, labels=tuple(sorted({*entry.labels, label}))))

    def write(self, entry: LabelFile) -> None:
        """Replace the label file by `entry`, unless they are equal."""
        self._replace(self._directory.label_file(entry.root), entry.to_bytes())

    def begin_removal(self, root: Cid) -> None:
        """Rename the label file, so that the root no longer counts as held before its files are removed."""
        self._directory.label_file(root).replace(self._directory.removing(root))
        fs.sync_directory(self._directory.labels)

    def finish_removal(self, root: Cid) -> None:
        """Finish a removal; when the root has a label file again, only cancel it."""
        if not self._directory.label_file(root).exists():
            staging.remove(self._directory.car(root))
            staging.remove(self._directory.index(root))
        staging.remove(self._directory.removing(root))

    def _replace(self, path: Path, data: bytes) -> None:
        if not path.is_file() or path.read_bytes() != data:
            fs.replace_file(path, data, staging=self._directory.tmp / path.name)
