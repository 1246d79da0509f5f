"""The store as a target: CARs in a directory, changed by one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from reconciler import fs
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.export import write_car
from reconciler.errors import BlockUnavailableError, DataError, PeerError
from reconciler.index.label import Label
from reconciler.index.part import Part
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
from reconciler.targets.store import labels as label_files
from reconciler.targets.store import staging
from reconciler.targets.store.directory import StoreDirectory
from reconciler.targets.store.ingest import StoreIngest
from reconciler.targets.store.labels import Labels
from reconciler.targets.store.layouts import SectionBlocks, layout_of_car, load_index, tree_layout
from reconciler.targets.store.observe import observe
from reconciler.targets.store.repair_in_place import all_bad_positions, is_header_valid, repair_in_place
from reconciler.targets.store.stored_blocks import CarFileDag

_LOCK_SECONDS = 60.0
_SPARE_BYTES = 1 << 20  # for the index, the label file and the file system itself
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StoreTarget:
    """A store in `directory`, created by the first publish.

    Readers take no lock. A writer holds the lock of the store while it changes names or repairs a CAR in
    place, not while it streams a new CAR into tmp/. It waits up to `lock_seconds` for the lock, then raises
    LockedError. `random` chooses the leaves of a sample.
    """

    kind = "store"
    capabilities = Capabilities(keeps_parts=True)

    def __init__(
        self, name: str, directory: Path, *, random: Random | None = None, lock_seconds: float = _LOCK_SECONDS
    ) -> None:
        self.name = name
        self._directory = StoreDirectory(directory)
        self._labels = Labels(self._directory)
        self._random = random or Random()  # noqa: S311 - a sample, not a secret
        self._lock_seconds = lock_seconds
        self._swept = False  # finding files of dead writers takes a listing; once is enough

    def observe(self, expected: Sequence[Expected], check: Check, mark: str, progress: Progress) -> Inventory:
        """Implement Target.observe. QUICK reads no CAR, and the block index only of a damaged root."""
        return observe(self._directory, expected, check, mark, random=self._random, progress=progress)

    def publish(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Implement Target.publish. A CAR without a label file is checked completely first."""
        root = dag.layout.root
        with self._writing(root):
            if self._labels.is_complete(dag.layout):
                self._labels.add_label(root, label)
                return Delivery(State.HELD, detail="already complete")
        return self.repair(dag, (), label, progress)

    def repair(
        self,
        dag: Dag,
        damaged: Sequence[Cid],  # noqa: ARG002  the whole CAR is read
        label: Label,
        progress: Progress,
    ) -> Delivery:
        """Implement Target.repair. An existing CAR is read completely, and only damaged sections are written.

        Returns PARTIAL when `dag` did not have every bad block.
        """
        root = dag.layout.root
        with self._writing(root):
            if os.path.lexists(self._directory.car(root)):
                return self._repair(dag, label, progress)
        return self._write_whole(dag, label, progress)

    def ingest(self, layout: DagLayout, label: Label, key: str) -> StoreIngest:
        """Implement Ingests.ingest: leaves go to their places in a file in tmp/."""
        with self._writing(layout.root):
            self._require_space(layout.car_size, has=staging.resumable_bytes(self._directory.tmp, key))
            staged = staging.stage_resumable(self._directory.tmp, key)
        return StoreIngest(
            self._directory, staged, layout, label, writing=self._writing, storing=self._storing
        )

    def parts(self, label: Label, key: str) -> frozenset[Part]:  # noqa: ARG002
        """Implement Ingests.parts: those of the unfinished file of the session `key`."""
        return staging.kept_parts(self._directory.tmp, key)

    def pin(self, root: Cid, label: Label, origins: Sequence[str]) -> Delivery:  # noqa: ARG002
        """Raise UnsupportedError: a store does not fetch blocks."""
        raise UnsupportedError("a store does not fetch blocks")

    def relabel(self, root: Cid, label: Label) -> None:
        """Implement Target.relabel. A CAR without a label file is checked completely before it gets one.

        Raises BlockUnavailableError when there is no CAR, or when it has no label file and is damaged.
        """
        with self._writing(root):
            if self._labels.read(root) is not None:
                self._labels.add_label(root, label)
                return
            with closing(self.dag(root)) as dag, self._directory.opened_car(root) as fd:
                layout = dag.layout
                intact = os.fstat(fd).st_size == layout.car_size and is_header_valid(fd, layout)
                with QUIET.task("checking", None) as task:
                    if not intact or all_bad_positions(fd, layout, task):
                        raise BlockUnavailableError(
                            f"the CAR of {root} is damaged", hint="run `reconcile` to repair it first"
                        )
            self._labels.commit(layout, label)

    def adopt(self, pin: Pin, label: Label) -> None:
        """Implement Target.adopt: add our label beside the other one. Raises PeerError when that is gone."""
        with self._writing(pin.root):
            entry = self._labels.read(pin.root)
            if entry is None or pin.label not in entry.labels:
                raise PeerError(
                    f"{self.name}: {pin.root} is no longer labelled {pin.label!r}",
                    hint="list the pins again with `reconcile adopt`",
                )
            self._labels.add_label(pin.root, label)

    def unpin(self, root: Cid, label: Label) -> None:
        """Implement Target.unpin. Raises DataError when a damaged label file hides the owner of `root`."""
        if not self._directory.exists():
            return
        with self._writing(root):
            try:
                entry = label_files.read(self._directory.label_file(root), root)
            except DataError as error:
                raise DataError(
                    f"cannot unpin {root}: {error.message}",
                    hint="keep its version in the index for one more run: the repair writes a new label file",
                ) from None
            if entry is not None and label in entry.labels:
                if rest := tuple(other for other in entry.labels if other != label):
                    self._labels.write(replace(entry, labels=rest))
                else:
                    self._labels.begin_removal(root)
                    self._labels.finish_removal(root)
            elif entry is None and self._directory.removing(root).exists():
                self._labels.finish_removal(root)

    def dag(self, root: Cid) -> Dag:
        """Implement Target.dag. The layout is proven from the inner nodes in the CAR."""
        fd = self._open(root)
        try:
            try:
                layout = tree_layout(fd, load_index(self._directory.index(root), root))
            except DataError:
                layout = layout_of_car(fd, root)
        except BaseException:
            os.close(fd)
            raise
        return CarFileDag(fd, layout)

    def blocks(self, root: Cid) -> BlockSource:
        """Return the blocks of `root`, even when inner nodes are damaged (see targets/healing.py)."""
        fd = self._open(root)
        try:
            return DagBlocks(CarFileDag(fd, load_index(self._directory.index(root), root)))
        except DataError:
            return SectionBlocks(fd)

    def origins(self) -> tuple[str, ...]:
        """Return nothing: a store has no network address."""
        return ()

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def _open(self, root: Cid) -> int:
        try:
            return self._directory.open_car(root)
        except FileNotFoundError:
            raise BlockUnavailableError(f"{root} is not in the store {self.name!r}") from None
        except OSError as error:
            raise PeerError(f"cannot read the CAR of {root}: {error.strerror}") from None

    @contextmanager
    def _writing(self, root: Cid) -> Iterator[None]:
        """Create the store if needed, lock it, and clean up after dead writers, except for `root`."""
        directory = self._directory
        directory.exists()
        with self._storing():
            directory.directory.mkdir(parents=True, exist_ok=True)
            with fs.locked(
                directory.lock,
                f"the store at {str(directory.directory)!r} is being changed by another process",
                hint="run again when the other process has finished",
                timeout=self._lock_seconds,
            ):
                directory.create()
                if not self._swept:
                    staging.sweep(directory.tmp)
                    for other in directory.interrupted_removals() - {root}:
                        self._labels.finish_removal(other)
                    self._swept = True
                yield

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Turn an OSError into an error for the user."""
        try:
            yield
        except OSError as error:
            store = repr(str(self._directory.directory))
            if error.errno in _FULL:
                raise PeerError(
                    f"no space left for the store at {store}",
                    hint="free some space, then run again; nothing was lost",
                ) from None
            hint = None
            if error.errno == errno.EIO:
                hint = "check the disk, then run again: what it may have lost is written again"
            raise PeerError(
                f"cannot write to the store at {store}: {error.strerror or error}", hint=hint
            ) from None

    def _require_space(self, size: int, *, has: int = 0) -> None:
        """Raise PeerError unless the disk has space for `size` bytes, of which it `has` some already."""
        size = max(0, size - has)
        free = shutil.disk_usage(self._directory.directory).free
        if size + _SPARE_BYTES > free:
            raise PeerError(
                f"the store at {str(self._directory.directory)!r} needs {size} more bytes; {free} are free",
                hint="free some space, or move the store to a larger disk",
            )

    def _write_whole(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        layout = dag.layout
        with self._writing(layout.root):
            self._require_space(layout.car_size)
            staged = staging.stage(self._directory.tmp, str(layout.root))
        with self._storing(), staging.released(staged):
            with progress.task(f"storing {label.name}", layout.car_size) as task:
                write_car(staged.fd, dag, task)
            with self._writing(layout.root):
                staged.path.replace(self._directory.car(layout.root))
                fs.sync_directory(self._directory.cars)
                self._labels.commit(layout, label)
        return Delivery(State.HELD, layout.size, len(layout))

    def _repair(self, dag: Dag, label: Label, progress: Progress) -> Delivery:
        """Repair the existing CAR; call inside `_writing`."""
        layout = dag.layout
        entry = self._labels.read(layout.root)

        def begin(growth: int) -> None:
            self._require_space(growth)
            if entry is not None:  # without an entry the CAR counts as incomplete anyway
                self._labels.write(replace(entry, repairing=True))

        with self._directory.opened_car(layout.root, os.O_RDWR) as fd:
            result = repair_in_place(fd, dag, begin, label.name, progress)
        if result.missing:
            detail = f"no source has {len(result.missing)} of the damaged blocks"
            return Delivery(State.PARTIAL, result.bytes, result.blocks, detail)
        self._labels.commit(layout, label)
        return Delivery(State.HELD, result.bytes, result.blocks)
