"""A session that streams leaves into tmp/ before the root is known, and makes a CAR of the store of them.

The file is named after the version's source, so an interrupted session is continued by the next one. Until
then it is garbage with a limited life: see `staging.sweep`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial

from reconciler import fs
from reconciler.content.background_flush import BackgroundFlush
from reconciler.content.cid import Cid
from reconciler.content.dag import Dag, DagLayout
from reconciler.content.part_dag import PartDag
from reconciler.content.partial_car import PartialCar
from reconciler.index.label import Label
from reconciler.index.part import Part
from reconciler.progress import Progress
from reconciler.targets.interface import Delivery, IngestedBlock, State
from reconciler.targets.store import staging
from reconciler.targets.store.directory import StoreDirectory
from reconciler.targets.store.labels import Labels
from reconciler.targets.store.staging import StagedCar


class StoreIngest:
    """One session of the store in `directory`; `staged` is its locked file, which it closes.

    `writing` locks the store for a root, `storing` turns an OSError into an error for the user.
    """

    streams = 1  # the system writes to one file in turn

    def __init__(
        self,
        directory: StoreDirectory,
        staged: StagedCar,
        provisional: DagLayout,
        label: Label,
        *,
        writing: Callable[[Cid], AbstractContextManager[None]],
        storing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._directory = directory
        self._labels = Labels(directory)
        self._staged = staged
        self._label = label
        self._open = True
        self._writing = writing
        self._storing = storing
        with storing():
            self._car = PartialCar(staged.fd, provisional)
        self._flush = BackgroundFlush(partial(staging.flush, staged))

    def held(self, position: int, cid: Cid | None) -> bytes | None:  # noqa: ARG002  a section has its CID
        """Implement IngestSession.held."""
        with self._storing():
            return self._car.held(position)

    def put(self, blocks: Sequence[IngestedBlock]) -> None:
        """Implement IngestSession.put."""
        with self._storing():
            self._car.put([(block.position, block.cid, block.data) for block in blocks])
            self._flush.wrote(sum(len(block.data) for block in blocks))

    def kept(self) -> Mapping[int, Cid]:
        """Implement IngestSession.kept: sections of the file prove themselves."""
        return {}

    def keep(self, dag: PartDag, part: Part, progress: Progress) -> Delivery:  # noqa: ARG002
        """Implement IngestSession.keep: the leaves stay in the file, on the disk."""
        try:
            with self._storing():
                self._flush.finish()
                staging.flush(self._staged)
                staging.mark_part(self._staged, part)
        finally:
            self.abandon()
        return Delivery(State.HELD, dag.layout.size, len(dag.layout))

    def finish(self, dag: Dag, progress: Progress) -> Delivery:
        """Implement IngestSession.finish: a CAR that the store has already is kept."""
        layout, label = dag.layout, self._label
        try:
            with self._writing(layout.root):
                if self._labels.is_complete(layout):
                    self._labels.add_label(layout.root, label)
                    self._staged.path.unlink(missing_ok=True)
                    staging.forget_parts(self._staged)
                    return Delivery(State.HELD, detail="already complete")
            with self._storing(), progress.task(f"completing {label.name}", layout.size) as task:
                self._flush.finish()
                self._car.complete(dag, task, partial(staging.flush, self._staged))
            with self._writing(layout.root):
                self._staged.path.replace(self._directory.car(layout.root))
                fs.sync_directory(self._directory.cars)
                self._labels.commit(layout, label)
            staging.forget_parts(self._staged)
        finally:
            self.abandon()
        return Delivery(State.HELD, layout.size, len(layout))

    def abandon(self) -> None:
        """Implement IngestSession.abandon: the file stays for the next session if it could be flushed."""
        if self._open:
            self._open = False
            with suppress(OSError):
                self._flush.finish()
            os.close(self._staged.fd)
