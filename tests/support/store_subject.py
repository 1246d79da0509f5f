"""The embedded store as a subject of the conformance suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.content.cid import Cid
from reconciler.content.dag import Dag
from reconciler.index.label import Label
from reconciler.progress import QUIET
from reconciler.targets.store import StoreTarget
from tests.conformance.targets import Damage
from tests.support.store_files import car_path, snapshot


class StoreSubject:
    """A store in a temporary directory; `damage` changes its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.target = StoreTarget("store", directory)

    def damage(self, dag: Dag, kind: Damage, cid: Cid) -> None:
        path = car_path(self.directory, dag)
        if kind is Damage.ALL_LOST:
            path.unlink()
            return
        position = dag.layout.find(cid)
        assert position is not None
        start, end = dag.layout.section_start(position), dag.layout.section_end(position)
        data = bytearray(path.read_bytes())
        if kind is Damage.CORRUPT_LEAF:
            data[end - 1] ^= 1
        else:
            data[start:end] = bytes(end - start)
        path.write_bytes(data)

    def pin_as_stranger(self, dag: Dag, label: str) -> None:
        StoreTarget("theirs", self.directory).publish(dag, Label("reconciler/theirs/any"), QUIET)
        path = self.directory / "labels" / f"{dag.layout.root}.json"
        path.write_text(path.read_text().replace("reconciler/theirs/any", label))

    def serve(self, dag: Dag) -> Sequence[str]:
        raise AssertionError("a store pins nothing by CID")

    def snapshot(self) -> object:
        return snapshot(self.directory)

    def make_unreachable(self) -> None:
        self.directory.rename(self.directory.with_name(f"{self.directory.name} moved"))
        self.directory.write_text("no directory")
