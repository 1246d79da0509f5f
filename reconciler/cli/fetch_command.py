"""`reconcile fetch`: a version's files, verified block by block, from whoever has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.cli import output as out
from reconciler.consume.content_cache import ContentCache, default_cache
from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.local import car_source, kubo_source, store_source, target_source
from reconciler.consume.sources import Source
from reconciler.content.cid import Cid
from reconciler.errors import BlockUnavailable, ExitCode, ReconcilerError, UsageError
from reconciler.index.model import Version
from reconciler.index.resolve import parse_ref, resolve
from reconciler.loop.run import Run
from reconciler.loop.settings import Layout, Settings
from reconciler.progress import Progress
from reconciler.render.words import count, size


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look for blocks, as the user named it; without any, the targets of the repository."""

    gateways: Sequence[str] = ()
    stores: Sequence[Path] = ()
    nodes: Sequence[str] = ()
    cars: Sequence[Path] = ()
    caches: Sequence[Path] = ()

    def __bool__(self) -> bool:
        return bool(self.gateways or self.stores or self.nodes or self.cars or self.caches)


def fetch_version(
    layout: Layout | None,
    ref: str,
    destination: Path,
    places: Places,
    *,
    include: Sequence[str],
    exclude: Sequence[str],
    no_cache: bool,
    as_json: bool,
) -> int:
    """Fetch what `ref` names to `destination`, and say what came from where.

    `layout` is None where there is no index; then `ref` is a CID.
    """
    with out.progress() as progress, ExitStack() as stack:
        root, version, sources = stack.enter_context(_found(layout, ref, places, progress))
        caches = [] if no_cache else [ContentCache(default_cache(os.environ))]
        caches += [ContentCache(directory, writable=False) for directory in places.caches]
        done = fetch(
            root,
            destination,
            sources,
            progress,
            name=version.ref if version else str(root),
            include=include,
            exclude=exclude,
            caches=caches,
        )
    if as_json:
        out.result_json(fetch_document(done, version))
    else:
        _tell(done)
        out.result(str(destination))
    return ExitCode.OK


@contextmanager
def _found(
    layout: Layout | None, ref: str, places: Places, progress: Progress
) -> Iterator[tuple[Cid, Version | None, list[Source]]]:
    wanted = parse_ref(ref)
    if layout is None:
        if wanted.cid is None:
            raise UsageError(f"{ref!r} needs an index, and there is none here", hint="name one with --index")
        yield wanted.cid, None, _named(places, wanted.cid, progress)
        return
    layout.make_state()
    with Run(Settings(layout), os.environ, progress) as run:
        found = resolve(run.index, wanted)
        for warning in found.warnings:
            out.warn(warning)
        if places:
            yield found.cid, found.version, _named(places, found.cid, progress)
            return
        names = list(found.version.targets if found.version else run.targets)
        sources: list[Source] = []
        reasons: list[str] = []
        for target in (run.targets[name] for name in names if name in run.targets):
            try:
                sources.append(target_source(target, found.cid))
            except ReconcilerError as error:
                reasons.append(error.message)
        if not sources:
            raise BlockUnavailable(
                f"no target of this repository can give {found.cid}",
                hint="; ".join(reasons) or "name a source: --gateway, --kubo, --store or --car",
            )
        yield found.cid, found.version, sources


def _named(places: Places, root: Cid, progress: Progress) -> list[Source]:
    """The sources that the user named, those on this machine first."""
    from reconciler.consume.gateway import Gateway

    sources: list[Source] = []
    reasons: list[str] = []
    for directory in places.stores:
        try:
            sources.append(store_source(directory, root))
        except BlockUnavailable as error:
            reasons.append(error.message)
    sources += [car_source(file, root, progress) for file in places.cars]
    sources += [kubo_source(api) for api in places.nodes]
    sources += [Gateway(url) for url in places.gateways]
    if not sources:
        raise BlockUnavailable(
            f"no source has {root}",
            hint="; ".join(reasons) or "name a source: --gateway, --kubo, --store or --car",
        )
    return sources


def fetch_document(done: Fetched, version: Version | None) -> dict[str, Any]:
    """The JSON object of a fetch; sizes in bytes."""
    return {
        "schema": 1,
        "kind": "fetch",
        "model": version.model if version else None,
        "version": version.version if version else None,
        "cid": str(done.root),
        "destination": str(done.destination),
        "already": done.already,
        "files": done.files,
        "size": done.size,
        "resumed": done.resumed,
        "cached": done.cached,
        "sums": done.sums,
        "sources": [
            {
                "name": source.name,
                "bytes": source.bytes,
                "blocks": source.blocks,
                "bad": source.bad,
                "dropped": source.dropped or None,
            }
            for source in done.sources
        ],
    }


def _tell(done: Fetched) -> None:
    for source in done.sources:
        if source.dropped:
            out.warn(f"{source.name} was given up: {source.dropped}")
    if done.already:
        out.say(f"{count(done.files, 'file')}, {size(done.size)}: there already, every block verified")
        return
    parts = [f"{size(source.bytes)} from {source.name}" for source in done.sources if source.bytes]
    parts += [f"{size(done.resumed)} from an interrupted fetch"] if done.resumed else []
    parts += [f"{size(done.cached)} from the cache"] if done.cached else []
    sums = "; SHA256SUMS agrees" if done.sums else ""
    out.say(f"{count(done.files, 'file')}, {size(done.size)}: {', '.join(parts)}; every block verified{sums}")
