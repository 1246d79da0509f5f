"""Opening of a source by its definition. The module of a kind is imported on demand."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from reconciler.errors import UsageError
from reconciler.sources.interface import SourceDefinition, SourceKind, WeightSource

#: the module of each kind, which has `open_source(definition, location, *, root, environ)`
KINDS: Mapping[SourceKind, str] = {
    SourceKind.DIRECTORY: "reconciler.sources.directory",
    SourceKind.OBJECT_STORE: "reconciler.sources.object_store",
    SourceKind.CAR: "reconciler.sources.car",
    SourceKind.HUGGING_FACE: "reconciler.sources.huggingface",
    SourceKind.LFS: "reconciler.sources.lfs",
    SourceKind.HTTP: "reconciler.sources.http_list",
}


def open_source(
    definition: SourceDefinition, location: str, *, root: Path, environ: Mapping[str, str]
) -> WeightSource:
    """Open `location` of the source that `definition` describes, without a connection.

    Local paths are relative to `root`, the repository or source root, where a directory may also be a CAR
    file; secrets come from `environ`. Raises
    UsageError for a location that the kind cannot have, a variable that is not set, or a missing extra.
    """
    kind = definition.kind
    if kind is SourceKind.DIRECTORY and location.endswith(".car") and (root / location).is_file():
        kind = SourceKind.CAR
    module = KINDS.get(kind)
    if module is None:
        raise UsageError(f"the source {definition.name!r} has the unsupported kind {definition.kind.value!r}")
    opener = import_module(module).open_source
    return cast(WeightSource, opener(definition, location, root=root, environ=environ))
