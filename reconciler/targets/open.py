"""From an entry of targets.yaml to a target. Each kind is imported only when an entry asks for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from reconciler.errors import InvalidIndexError
from reconciler.index.model import TargetSpec
from reconciler.targets.interface import RunTerms, Target

#: kind -> the package whose `open_target(spec, *, root, environ, terms)` makes it
KINDS: Mapping[str, str] = {
    "store": "reconciler.targets.store",
    "kubo": "reconciler.targets.kubo",
    "ipfs-cluster": "reconciler.targets.ipfs_cluster",
    "pinning-service": "reconciler.targets.pinning_service",
    "storacha": "reconciler.targets.storacha",
}


def open_target(
    spec: TargetSpec, *, root: Path, environ: Mapping[str, str], terms: RunTerms = RunTerms()
) -> Target:
    """The target that `spec` describes; nothing is contacted or created yet.

    Relative paths are relative to `root`, the repository; secrets come from `environ`. Raises
    InvalidIndexError for an unknown kind, UserError for options that cannot be used.
    """
    if spec.kind not in KINDS:
        close = difflib.get_close_matches(spec.kind, KINDS, n=1)
        known = ", ".join(KINDS)
        hint = f"did you mean {close[0]!r}?" if close else f"the kinds are {known}"
        raise InvalidIndexError(
            f"target {spec.name!r} has unknown kind {spec.kind!r}", hint=hint, where=spec.where
        )
    return cast(
        Target, import_module(KINDS[spec.kind]).open_target(spec, root=root, environ=environ, terms=terms)
    )
