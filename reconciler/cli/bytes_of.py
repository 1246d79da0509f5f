"""The bytes of one version, wherever they are: its own directory first, then the targets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.content.car import Cut
from reconciler.content.dag import Dag
from reconciler.index.layout import Layout
from reconciler.index.model import Version
from reconciler.index.resolve import parse_ref, resolve
from reconciler.loop.run import Run
from reconciler.loop.settings import Settings
from reconciler.progress import Progress
from reconciler.targets.healing import gather


@dataclass(frozen=True, slots=True)
class Found:
    """A DAG, what a user calls it (`model@version` or the CID), and in words where its bytes come from.

    `cuts` are the ways in which targets of the version cut it into pieces.
    """

    name: str
    version: Version | None
    dag: Dag
    source: str
    cuts: tuple[Cut, ...] = ()


@contextmanager
def bytes_of(layout: Layout, ref: str, progress: Progress, *, use_cache: bool) -> Iterator[Found]:
    """Open the DAG that `ref` names while the block runs.

    Raises UsageError for a REF that names nothing, BundleError when the version's directory no longer gives
    its CID, BlockUnavailable when nobody has the bytes.
    """
    wanted = parse_ref(ref)
    layout.make_state()
    with Run(Settings(layout, use_cache=use_cache), os.environ, progress) as run:
        found = resolve(run.index, wanted)
        version = found.version
        if version is not None and run.sources.present([version]):
            yield Found(
                version.ref, version, run.sources.identify(version), str(version.path), run.cuts(version)
            )
            return
        names = [name for name in (version.targets if version else run.targets) if name in run.targets]
        donors = gather(found.cid, [run.targets[name] for name in names])
        try:
            name = version.ref if version else str(found.cid)
            yield Found(name, version, donors, ", ".join(names), run.cuts(version) if version else ())
        finally:
            donors.close()
