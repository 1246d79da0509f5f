"""What a store promises about its roots: making, changing and taking back, in the order that is safe.

All of these are called by whoever holds the lock of the store.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.content import layout_file
from reconciler.content.cid import Cid
from reconciler.content.dag import DagLayout
from reconciler.errors import DataError
from reconciler.targets.store import durable
from reconciler.targets.store import entry as entries
from reconciler.targets.store.entry import Entry
from reconciler.targets.store.place import Place


class Promises:
    """The label files and block indexes of one store."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def entry(self, root: Cid) -> Entry | None:
        """The entry of `root`; a damaged label file counts as none, since nothing in it can be believed."""
        try:
            return entries.read(self._place.entry(root), root)
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
            durable.write_file(path, index, self._place.tmp / path.name)
        before = self.entry(layout.root)
        labels = {label} | set(before.labels if before else ())
        self.write(Entry(layout.root, layout.car_size, len(index), tuple(sorted(labels))))
        durable.remove(self._place.removing(layout.root))

    def add_label(self, root: Cid, label: str) -> None:
        """Put `label` beside the others; nothing happens to a root without an entry."""
        entry = self.entry(root)
        if entry is not None and label not in entry.labels:
            self.write(replace(entry, labels=tuple(sorted({*entry.labels, label}))))

    def write(self, entry: Entry) -> None:
        """Put `entry` in place of the one that is there, unless they are equal."""
        path = self._place.entry(entry.root)
        data = entry.to_bytes()
        if not path.is_file() or path.read_bytes() != data:
            durable.write_file(path, data, self._place.tmp / path.name)

    def finish_removal(self, root: Cid) -> None:
        """Remove what `removing` still marks; a root that got a label meanwhile only loses the mark."""
        if not self._place.entry(root).exists():
            durable.remove(self._place.car(root))
            durable.remove(self._place.index(root))
        durable.remove(self._place.removing(root))

    def begin_removal(self, root: Cid) -> None:
        """Take the promise back, before anything it is about goes."""
        self._place.entry(root).replace(self._place.removing(root))
        durable.sync_directory(self._place.labels)
