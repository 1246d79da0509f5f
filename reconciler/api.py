"""The Python interface: `reconciler.resolve` and `reconciler.fetch`, for programs that load models.

Stable: names, parameters and fields of this module are kept within a major version; new ones may be added,
always with a default. Everything else in the package may change in any release.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.consume.open import Sources, content_caches, fetch_opened, open_ref
from reconciler.errors import UsageError
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    from reconciler.consume.fetch import Fetched
    from reconciler.index.locations import RepositoryLayout

__all__ = ["Resolution", "Sources", "fetch", "resolve"]


@dataclass(frozen=True, slots=True)
class Resolution:
    """A resolved reference. `model` and `version` are None for a CID that is not in the index.

    `warnings` are for people: the version is yanked, or retired.
    """

    cid: str
    model: str | None
    version: str | None
    warnings: tuple[str, ...] = ()


def resolve(ref: str, *, index: str | os.PathLike[str] | None = None) -> Resolution:
    """Resolve `ref`: `model@1.2.0`, `model@^1.2`, `model@stable`, `model` (the highest version), or a CID.

    `index` is a file, an https:// address, git+https://…@REF, ipfs://CID or ipns://NAME. Without it, the
    index is the one in RECONCILE_INDEX, of the nearest repository upwards, or of the user's configuration.
    Raises reconciler.errors.ReconcilerError.
    """
    from reconciler.index import resolve as resolving
    from reconciler.index.load import load_index

    wanted = resolving.parse_ref(ref)
    layout = _layout(index, optional=wanted.cid is not None)
    if layout is None:
        return Resolution(str(wanted.cid), None, None)
    found = resolving.resolve(load_index(layout.index_file), wanted)
    version = found.version
    return Resolution(
        str(found.cid),
        version.model if version else None,
        version.version if version else None,
        found.warnings,
    )


def fetch(
    ref: str,
    destination: str | os.PathLike[str],
    *,
    index: str | os.PathLike[str] | None = None,
    sources: Sources = Sources(),  # noqa: B008  frozen
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    cache: bool = True,
    progress: Progress = QUIET,
    identity: str | os.PathLike[str] | None = None,
    sealed: bool = False,
) -> Fetched:
    """Fetch the files of `ref` to `destination`, verify every block, and publish them atomically.

    Another call for the same version verifies the files there and fetches nothing. `index` is as for
    `resolve`. `include` and `exclude` are globs of files. With `cache`, unchanged files are shared between
    versions on one disk, and read-only. Trust rules of the user's configuration are enforced before the first
    block. A sealed version is decrypted with the private key in the file `identity`, or else in
    RECONCILE_IDENTITY; with `sealed` it stays as it is. Raises reconciler.errors.ReconcilerError, of which
    TrustError is the refusal of a trust rule; verified blocks are kept for the next call.
    """
    from reconciler.index.resolve import parse_ref

    layout = _layout(index, optional=parse_ref(ref, with_path=True).cid is not None)
    with open_ref(layout, ref, sources, progress) as found:
        return fetch_opened(
            found,
            layout,
            Path(destination),
            progress,
            include=include,
            exclude=exclude,
            caches=content_caches(sources, own=cache),
            identity=None if identity is None else Path(identity),
            keep_sealed=sealed,
        )


def _layout(index: str | os.PathLike[str] | None, *, optional: bool) -> RepositoryLayout | None:
    """Find the index; return None when there is none and it is `optional`."""
    from reconciler.consume.find_index import find_index

    try:
        return find_index(index=None if index is None else os.fspath(index))
    except UsageError:
        if index is not None or not optional:
            raise
        return None
