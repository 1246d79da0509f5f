"""The embedded store as a target: CARs in a directory, changed by one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.content.export import write_car
from reconciler.errors import BlockUnavailableError, DataError, LockedError, PeerError
from reconciler.index.label import Label
from reconciler.progress import QUIET, Progress
from reconciler.targets.healing import BlockSource, DagBlocks
from reconciler.targets.interface import (
    Capabilities,
    Check,
    Delivery,
    Expected,
    Inventory,
    Pin,
    State,
    UnsupportedError,
)
from reconciler.targets.store import labels as entries
from reconciler.targets.store import repair_in_place, staging
from reconciler.targets.store.labels import Labels
from reconciler.targets.store.layouts import SectionBlocks, layout_of_car, load_index, tree_layout
from reconciler.targets.store.observe import observe
from reconciler.targets.store.place import StoreDirectory
from reconciler.targets.store.repair_in_place import mend
from reconciler.targets.store.stored_blocks import CarFileDag

_LOCK_SECONDS = 60.0
_SPARE_BYTES = 1 << 20  #: for the index, the label file and the file system's own needs
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StoreTarget:
    """A store in `directory`, made by the first publish.

    Readers take no lock. A writer holds the store's lock while it changes names or mends a CAR in place, not
    while it streams a new CAR into tmp/; it waits `lock_seconds` for another one, then raises LockedError.
    `random` chooses the leaves of a sample.
    """

    kind = "store"
    capabilities = Capabilities()

    def __init__(
        self, name: str, directory: Path, *, random: Random | None = None, lock_seconds: float = _LOCK_SECONDS
    ) -> None:
        self.name = name
        self._place = StoreDirectory(directory)
        self._promises = Labels(self._place)
        self._random = random or Random()  # noqa: S311 - a sample, not a secret
        self._lock_seconds = lock_seconds
        self._swept = False  # looking for what dead writers left costs a listing; once is enough

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        """As the interface says. QUICK reads no CAR; a damaged root costs its block index as well."""
        return observe(self._place, expected, check, mark, random=self._random, progress=progress)

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """As the interface says. A CAR that is there without its label is checked whole first."""
        root = dag.layout.root
        with self._writing(root):
            if self._promises.hold(dag.layout):
                self._promises.add_label(root, label)
                return Delivery(State.HELD, detail="already there")
        return self.repair(dag, (), label, progress)

    def repair(
        self,
        dag: Dag,
        damaged: Sequence[Cid],  # noqa: ARG002 - the CAR is read anyway
        label: Label,
        progress: Progress,
    ) -> Delivery:
        """As the interface says. A CAR that was found damaged is read whole once: only what is bad is
        written.

        Returns PARTIAL when `dag` could not give every bad block.
        """
        root = dag.layout.root
        with self._writing(root):
            if os.path.lexists(self._place.car(root)):
                return self._mend(dag, label, progress)
        return self._write_whole(dag, label, progress)

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:  # noqa: ARG002
        """A store fetches nothing by itself."""
        raise UnsupportedError("a store takes bytes, it does not fetch them")

    def relabel(self, root: Cid, label: Label) -> None:
        """As the interface says. A CAR without a label file is checked whole before it gets one.

        Raises BlockUnavailableError when there is no CAR, or such a CAR does not hold.
        """
        with self._writing(root):
            if self._promises.entry(root) is not None:
                self._promises.add_label(root, label)
                return
            with closing(self.dag(root)) as dag, self._place.opened_car(root) as fd:
                layout = dag.layout
                sound = os.fstat(fd).st_size == layout.car_size and repair_in_place.header_holds(fd, layout)
                with QUIET.task("checking", None) as task:
                    if not sound or repair_in_place.all_bad_positions(fd, layout, task):
                        raise BlockUnavailableError(f"the CAR of {root} is damaged", hint="repair it first")
            self._promises.make(layout, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """As the interface says: our label beside the one that is there. Raises PeerError when it is not."""
        with self._writing(pin.root):
            entry = self._promises.entry(pin.root)
            if entry is None or pin.label not in entry.labels:
                raise PeerError(
                    f"{self.name}: {pin.root} is not labelled {pin.label!r} any more",
                    hint="look again: `reconcile adopt`",
                )
            self._promises.add_label(pin.root, label)

    def unpin(self, root: Cid, label: Label) -> None:
        """As the interface says. Raises DataError when the label file does not tell whose the root is."""
        if not self._place.exists():
            return
        with self._writing(root):
            try:
                entry = entries.read(self._place.entry(root), root)
            except DataError as error:
                raise DataError(
                    f"{root} is kept: {error.message}", hint="a repair writes a new label file"
                ) from None
            if entry is not None and label in entry.labels:
                if rest := tuple(other for other in entry.labels if other != label):
                    self._promises.write(replace(entry, labels=rest))
                else:
                    self._promises.begin_removal(root)
                    self._promises.finish_removal(root)
            elif entry is None and self._place.removing(root).exists():
                self._promises.finish_removal(root)

    def dag(self, root: Cid) -> Dag:
        """As the interface says: the layout is proven from the tree blocks in the CAR."""
        fd = self._open(root)
        try:
            try:
                layout = tree_layout(fd, load_index(self._place.index(root), root))
            except DataError:
                layout = layout_of_car(fd, root)
        except BaseException:
            os.close(fd)
            raise
        return CarFileDag(fd, layout)

    def blocks(self, root: Cid) -> BlockSource:
        """What is left of `root`, also where inner nodes are damaged (see targets/healing.py)."""
        fd = self._open(root)
        try:
            return DagBlocks(CarFileDag(fd, load_index(self._place.index(root), root)))
        except DataError:
            return SectionBlocks(fd)

    def origins(self) -> tuple[str, ...]:
        """None: a store has no address of its own."""
        return ()

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _open(self, root: Cid) -> int:
        try:
            return self._place.open_car(root)
        except FileNotFoundError:
            raise BlockUnavailableError(f"{root} is not in the store {self.name!r}") from None
        except OSError as error:
            raise PeerError(f"cannot read the CAR of {root}: {error.strerror}") from None

    @contextmanager
    def _writing(self, root: Cid) -> Iterator[None]:
        """Hold the lock of a store that exists, cleared of what dead writers left, but for `root`."""
        place = self._place
        place.exists()
        with self._storing():
            place.directory.mkdir(parents=True, exist_ok=True)
            with self._locked():
                place.create()
                if not self._swept:
                    staging.sweep(place.tmp)
                    for other in place.interrupted_removals() - {root}:
                        self._promises.finish_removal(other)
                    self._swept = True
                yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self._place.lock, timeout=self._lock_seconds)
        try:
            lock.acquire()
        except Timeout:
            raise LockedError(
                f"the store at {str(self._place.directory)!r} is being changed by another process",
                hint="run again when that one has ended",
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Turn what the file system says into an error for the user."""
        try:
            yield
        except OSError as error:
            where = f"the store at {str(self._place.directory)!r}"
            if error.errno in _FULL:
                raise PeerError(
                    f"no space left for {where}", hint="free some space, then run again; nothing was lost"
                ) from None
            raise PeerError(f"cannot write to {where}: {error.strerror or error}") from None

    def _require_space(self, size: int) -> None:
        free = shutil.disk_usage(self._place.directory).free
        if size + _SPARE_BYTES > free:
            raise PeerError(
                f"the store at {str(self._place.directory)!r} needs {size} bytes more; {free} are free",
                hint="free some space, or move the store to a larger disk",
            )

    def _write_whole(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        layout = dag.layout
        with self._writing(layout.root):
            self._require_space(layout.car_size)
            staged = staging.stage(self._place.tmp, str(layout.root))
        with self._storing(), staging.released(staged):
            with progress.task(f"storing {label.name}", layout.car_size) as task:
                write_car(staged.fd, dag, task)
            with self._writing(layout.root):
                staged.path.replace(self._place.car(layout.root))
                staging.sync_directory(self._place.cars)
                self._promises.make(layout, label)
        return Delivery(State.HELD, layout.size, len(layout))

    def _mend(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Mend the CAR that is there; call while writing."""
        layout = dag.layout
        entry = self._promises.entry(layout.root)

        def begin(growth: int) -> None:
            self._require_space(growth)
            if entry is not None:  # without an entry the CAR counts as incomplete anyway
                self._promises.write(replace(entry, repairing=True))

        with self._place.opened_car(layout.root, os.O_RDWR) as fd:
            mended = mend(fd, dag, begin, label.name, progress)
        if mended.missing:
            detail = f"{len(mended.missing)} damaged blocks could not be had"
            return Delivery(State.PARTIAL, mended.bytes, mended.blocks, detail)
        self._promises.make(layout, label)
        return Delivery(State.HELD, mended.bytes, mended.blocks)
