"""The Python interface: `reconciler.resolve` and `reconciler.fetch`, for programs that load models.

Stable: names, parameters and fields of this module are kept within a major version; new ones may be added,
always with a default. Everything else in the package may change in any release.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import BlockUnavailableError, ReconcilerError, UsageError
from reconciler.progress import QUIET, Progress

if TYPE_CHECKING:
    from reconciler.consume.content_cache import ContentCache
    from reconciler.consume.fetch import Fetched
    from reconciler.consume.sources import Source
    from reconciler.content.cid import Cid
    from reconciler.index.layout import Layout
    from reconciler.index.model import Version
    from reconciler.loop.run import Run


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a reference means. `model` and `version` are None for a CID that the index does not know.

    `warnings` are for people: that a version is yanked, or kept nowhere any more.
    """

    cid: str
    model: str | None
    version: str | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """Who is asked for blocks: trustless gateways and Kubo nodes by address, stores, CAR files, and content
    caches of other machines by path. Without any, the targets of the index's repository.
    """

    gateways: Sequence[str] = ()
    stores: Sequence[Path] = ()
    nodes: Sequence[str] = ()
    cars: Sequence[Path] = ()
    caches: Sequence[Path] = ()

    def __bool__(self) -> bool:
        return bool(self.gateways or self.stores or self.nodes or self.cars)


def resolve(ref: str, *, index: str | os.PathLike[str] | None = None) -> Resolution:
    """The version that `ref` means: `model@1.2.0`, `model@^1.2`, `model@stable`, `model`, or a CID.

    `index` is a file, an https:// address, git+https://…@REF, ipfs://CID or ipns://NAME; without it
    RECONCILE_INDEX, the repository around here, or the user's configuration name one. Raises
    reconciler.errors.ReconcilerError.
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
    sources: Sources = Sources(),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    cache: bool = True,
    progress: Progress = QUIET,
) -> Fetched:
    """Put the files of `ref` at `destination`, every block verified, whole or not at all.

    Calling it again for the same version checks what is there and fetches nothing. `include` and `exclude`
    are globs of files. `cache` shares unchanged files between versions on one disk; those are read-only.
    Raises reconciler.errors.ReconcilerError; what was verified until then is kept for the next call.
    """
    from reconciler.consume.fetch import fetch as fetch_root
    from reconciler.index.resolve import parse_ref

    layout = _layout(index, optional=parse_ref(ref).cid is not None)
    with found(layout, ref, sources, progress) as (root, version, opened, _):
        return fetch_root(
            root,
            Path(destination),
            opened,
            progress,
            name=version.ref if version else str(root),
            include=include,
            exclude=exclude,
            caches=content_caches(sources, own=cache),
        )


def content_caches(sources: Sources, *, own: bool) -> list[ContentCache]:
    """The user's own content cache, if it is to be used, then those of `sources`, which are only read."""
    from reconciler.consume.content_cache import ContentCache, default_cache

    caches = [ContentCache(default_cache(os.environ))] if own else []
    return caches + [ContentCache(Path(directory), writable=False) for directory in sources.caches]


@contextmanager
def found(
    layout: Layout | None, ref: str, sources: Sources, progress: Progress
) -> Iterator[tuple[Cid, Version | None, list[Source], tuple[str, ...]]]:
    """Root, version, sources and warnings of `ref` while the block runs; `layout` is None without an index.

    Raises as `fetch` does.
    """
    from reconciler.index.resolve import parse_ref
    from reconciler.index.resolve import resolve as resolve_ref
    from reconciler.loop.run import Run
    from reconciler.loop.settings import Settings

    wanted = parse_ref(ref)
    if layout is None:
        if wanted.cid is None:
            raise UsageError(f"{ref!r} needs an index, and there is none here", hint="name one with --index")
        yield wanted.cid, None, open_sources(sources, wanted.cid, progress), ()
        return
    with suppress(OSError) if sources else nullcontext():  # an index may be mounted read-only
        layout.make_state()
    if sources:
        from reconciler.index.load import load_index

        known = resolve_ref(load_index(layout.index_file, stamps=layout.cache), wanted)
        yield known.cid, known.version, open_sources(sources, known.cid, progress), known.warnings
        return
    with Run(Settings(layout), os.environ, progress) as run:
        known = resolve_ref(run.index, wanted)
        yield known.cid, known.version, _targets(run, known.cid, known.version), known.warnings


def open_sources(sources: Sources, root: Cid, progress: Progress) -> list[Source]:
    """What can be asked for `root` of those that are named, the ones on this machine first.

    Raises BlockUnavailableError when that is nothing, UsageError for an address that is none.
    """
    from reconciler.consume.gateway import GatewaySource
    from reconciler.consume.local import car_source, kubo_source, store_source

    opened: list[Source] = []
    reasons: list[str] = []
    for directory in sources.stores:
        try:
            opened.append(store_source(Path(directory), root))
        except BlockUnavailableError as error:
            reasons.append(error.message)
    opened += [car_source(Path(file), root, progress) for file in sources.cars]
    opened += [kubo_source(api) for api in sources.nodes]
    opened += [GatewaySource(url) for url in sources.gateways]
    if not opened:
        raise BlockUnavailableError(f"no source has {root}", hint="; ".join(reasons) or _NAME_ONE)
    return opened


_NAME_ONE = "name a source: --gateway, --kubo, --store or --car"


def _targets(run: Run, root: Cid, version: Version | None) -> list[Source]:
    from reconciler.consume.local import target_source

    opened: list[Source] = []
    reasons: list[str] = []
    for name in version.targets if version else run.targets:
        if name not in run.targets:
            continue
        target = run.targets[name]
        if not target.capabilities.serves_blocks:
            reasons.append(f"{name} serves no blocks")
            continue
        try:
            opened.append(target_source(target, root))
        except ReconcilerError as error:
            reasons.append(error.message)
    if not opened:
        raise BlockUnavailableError(
            f"no target of this repository can give {root}", hint="; ".join(reasons) or _NAME_ONE
        )
    return opened


def _layout(index: str | os.PathLike[str] | None, *, optional: bool) -> Layout | None:
    from reconciler.consume.find_index import find_index

    try:
        return find_index(index=None if index is None else os.fspath(index))
    except UsageError:
        if index is not None or not optional:
            raise
        return None
