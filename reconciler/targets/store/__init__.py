"""store: the embedded target, a directory of CARs that needs no daemon.

A CAR counts as held only while a label file names its root. The label file is written last and removed first,
so a process that is killed at any moment leaves a state that the next run recognizes and completes. May use:
content, index, fs, json_fields and the interface of targets. Guarantees: readers take no lock; one process at
a time changes the store; files without our names are never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.index.model import TargetSpec
from reconciler.targets.interface import RunTerms
from reconciler.targets.store.target import StoreTarget

__all__ = ["StoreTarget", "open_target"]


def open_target(
    spec: TargetSpec,
    *,
    root: Path,
    environ: Mapping[str, str],  # noqa: ARG001  a store has no secret
    terms: RunTerms = RunTerms(),  # noqa: ARG001  and sends no requests
) -> StoreTarget:
    """Return the store of `spec`; its `path` is relative to `root`, the repository."""
    return StoreTarget(spec.name, root / str(spec.options["path"]))
