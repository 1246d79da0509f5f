"""`reconcile fetch`: a version's files, verified block by block, from whoever has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconciler.api import found
from reconciler.cli import output as out
from reconciler.consume import hugging_face
from reconciler.consume.fetch import Fetched, fetch
from reconciler.consume.lock_file import read_lock
from reconciler.consume.open import Sources, content_caches
from reconciler.content.cid import Cid
from reconciler.errors import ExitCode, UsageError
from reconciler.index.layout import Layout
from reconciler.index.model import Version
from reconciler.index.resolve import Channel, parse_ref
from reconciler.render.words import count, size


def fetch_version(
    layout: Layout | None,
    ref: str,
    destination: Path,
    sources: Sources,
    *,
    include: Sequence[str],
    exclude: Sequence[str],
    hugging_face_name: str | None,
    lock: Path | None,
    no_cache: bool,
    as_json: bool,
    as_events: bool = False,
) -> int:
    """Fetch what `ref` names to `destination`, and say what came from where.

    `layout` is None where there is no index; then `ref` is a CID or is in `lock`. With `hugging_face_name`
    the destination is a cache of huggingface_hub, and the files go where it looks for that repository. With
    `as_events`, what happens is told on stdout as it does, and the result last.
    """
    wanted = ref if lock is None else str(_locked(lock, ref))
    with (
        out.progress(events=as_events) as progress,
        found(layout, wanted, sources, progress) as (root, version, opened, warnings),
    ):
        for warning in warnings:
            out.warn(warning)
        repo = (
            hugging_face.repository(destination, hugging_face_name) if hugging_face_name is not None else None
        )
        done = fetch(
            root,
            destination if repo is None else hugging_face.snapshot(repo, root),
            opened,
            progress,
            name=version.ref if version else str(root),
            include=include,
            exclude=exclude,
            caches=content_caches(sources, own=not no_cache),
        )
        if repo is not None:
            hugging_face.write_refs(repo, root, _names(ref, version))
    if as_json or as_events:
        out.result_json(fetch_document(done, version), line=as_events)
    else:
        _tell(done)
        out.result(str(destination if repo is None else done.destination))
    return ExitCode.OK


def _locked(lock: Path, ref: str) -> Cid:
    """What the lock says of `ref`, as it was asked for or as it was resolved, and nothing else."""
    entries = read_lock(lock)
    entry = entries.get(ref) or next(
        (each for each in entries.values() if ref == f"{each.model}@{each.version}"), None
    )
    if entry is None:
        known = ", ".join(entries) or "nothing"
        raise UsageError(f"{ref!r} is not in {str(lock)!r}, which has {known}", hint=f"reconcile lock {ref}")
    return entry.cid


def _names(ref: str, version: Version | None) -> list[str]:
    """Under which names readers may look for a version: itself, and the channel that was asked for."""
    selector = parse_ref(ref).selector
    channel = [selector.name] if isinstance(selector, Channel) else []
    return [*([version.version] if version else []), *channel]


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
