"""store: the embedded target, a directory of CARs that needs no daemon.

`place.py` says what lies where, `entry.py` what a label file is, `promises.py` when it changes. `observe.py`
looks, `target.py` changes; `mend.py` repairs a CAR in place.
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
    terms: RunTerms = RunTerms(),  # noqa: ARG001  and asks nobody twice
) -> StoreTarget:
    """The store of `spec`; its `path` is relative to `root`, the repository."""
    return StoreTarget(spec.name, root / str(spec.options["path"]))
