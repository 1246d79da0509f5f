"""The bytes of one version: from its own directory where that is present, else from the targets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.content.car import Sharding
from reconciler.content.dag import Dag
from reconciler.index.layout import Layout
from reconciler.index.model import Version
from reconciler.index.resolve import parse_ref, resolve
from reconciler.loop.settings import Scope
from reconciler.loop.workspace import load
from reconciler.progress import Progress
from reconciler.targets.healing import gather


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """A version whose blocks can be read. `version` is None for a CID that the index does not list.

    `name` is `model@version` or the CID, `source` says where the bytes come from, `cuts` are the ways in
    which the targets of the version split it into CARs.
    """

    name: str
    version: Version | None
    dag: Dag
    source: str
    cuts: tuple[Sharding, ...] = ()


@contextmanager
def open_version(layout: Layout, ref: str, progress: Progress, *, use_cache: bool) -> Iterator[OpenedVersion]:
    """Open the DAG of `ref` while the block runs.

    Raises UsageError when `ref` names nothing, BundleError when the version's directory no longer has its
    CID, BlockUnavailableError when no target has the bytes.
    """
    wanted = parse_ref(ref)
    layout.make_state()
    with load(Scope(layout, use_cache=use_cache), os.environ, progress) as workspace:
        found = resolve(workspace.index, wanted)
        version = found.version
        if version is not None and workspace.sources.present([version]):
            dag = workspace.sources.identify(version)
            yield OpenedVersion(version.ref, version, dag, str(version.path), workspace.cuts(version))
            return
        wanted_targets = version.targets if version else tuple(workspace.targets)
        names = [name for name in wanted_targets if name in workspace.targets]
        donors = gather(found.cid, [workspace.targets[name] for name in names])
        try:
            name = version.ref if version else str(found.cid)
            cuts = workspace.cuts(version) if version else ()
            yield OpenedVersion(name, version, donors, ", ".join(names), cuts)
        finally:
            donors.close()
