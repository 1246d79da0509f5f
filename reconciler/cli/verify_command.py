"""`reconcile verify`: a directory, or a version where it is kept, against the index; every byte is read."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.cli import output as out
from reconciler.cli.bytes_of import bytes_of
from reconciler.consume.content_cache import ContentCache, default_cache
from reconciler.consume.verify import (
    compare_directory,
    intended_version,
    tree_from_stores,
    version_at,
    version_with_root,
)
from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.identify import identify
from reconciler.errors import DataError, ExitCode
from reconciler.index.layout import Layout
from reconciler.index.load import load_index
from reconciler.index.model import Version
from reconciler.index.recorded import records_directory
from reconciler.loop.run import Run
from reconciler.loop.settings import Settings
from reconciler.render.words import count, plain, size


def verify_directory(
    layout: Layout, path: Path, *, as_ref: str | None, hidden: bool, no_cache: bool, as_json: bool
) -> int:
    """Find the version whose CID `path` gives, exactly as it is, or name what differs from the one it
    should be (`as_ref`, else what its manifest says). Raises DataError when there is none.

    The directory that the index names as a version's own is checked as that version's bundle instead: its
    SHA256SUMS and manifest.json may be generated ones.
    """
    layout.make_state()
    index = load_index(layout.index_file, stamps=None if no_cache else layout.cache)
    own = version_at(index, layout.source_root, path)
    if own is not None:
        return verify_version(layout, own.ref, no_cache=no_cache, as_json=as_json)
    with out.progress() as progress:
        dag = identify(bare_bundle(path, include_hidden=hidden), cache=None, progress=progress)
    found = version_with_root(index, dag.identity.root)
    if found is None:
        expected = intended_version(index, path, as_ref)
        if expected is None:
            raise DataError(
                f"{str(path)!r} gives {dag.identity.root}, which no version in the index has",
                hint="say with --as REF which version it should be, to see what differs",
            )
        return _compare(layout, expected, dag.identity.root, path, as_json=as_json)
    _told(found, dag.identity.root, dag.identity.blocks, dag.identity.size, str(path), as_json=as_json)
    return ExitCode.OK


def verify_cache(*, as_json: bool) -> int:
    """Hash every file in the content cache and throw damaged ones away; exit 1 when there were any."""
    with out.progress() as progress:
        number, damaged = ContentCache(default_cache(os.environ)).remove_damaged(progress)
    if as_json:
        names = [path.name for path in damaged]
        out.result_json({"schema": 1, "kind": "cache", "ok": not damaged, "files": number, "damaged": names})
    else:
        for path in damaged:
            out.result(f"damaged, and thrown away: {path.name}")
        out.result(f"{count(number - len(damaged), 'file')} in the cache, every byte verified")
    return ExitCode.ERROR if damaged else ExitCode.OK


def _compare(layout: Layout, version: Version, root: Cid, path: Path, *, as_json: bool) -> int:
    """Report how the directory `path`, whose root is `root`, differs from `version`."""
    with out.progress() as progress:
        with Run(Settings(layout), os.environ, progress) as run:
            tree = tree_from_stores(run.targets.values(), version.cid) if version.cid else None
        found = compare_directory(path, version, tree, records_directory(layout.index_file), progress)
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "verification",
                "ok": False,
                "model": version.model,
                "version": version.version,
                "cid": str(version.cid),
                "found": str(root),
                "compared_by": found.compared_by.value,
                "source": str(path),
                "differences": [
                    {"path": each.path, "kind": each.kind.value, "offsets": list(each.offsets)}
                    for each in found.differences
                ],
            }
        )
    else:
        for each in found.differences:
            leaves = count(len(each.offsets), "leaf", "leaves")
            where = f"  ({leaves}, the first at byte {each.offsets[0]})" if each.offsets else ""
            out.result(f"{each.kind.value:<8} {plain(each.path)}{where}")
        number = count(len(found.differences), "file differs", "files differ")
        out.say(f"{str(path)!r} is not {version.ref}: {number}")
    return ExitCode.ERROR


def verify_version(layout: Layout, ref: str, *, no_cache: bool, as_json: bool) -> int:
    """Read every block of a version from its own directory, else from the targets. Raises DataError,
    BundleError.
    """
    with out.progress() as progress, bytes_of(layout, ref, progress, use_cache=not no_cache) as found:
        blocks = found.dag.layout
        with progress.task(f"verify {found.name}", blocks.size) as task:
            for position in range(len(blocks)):
                task.advance(len(found.dag.read(position)))
        _told(found.version, blocks.root, len(blocks), blocks.size, found.source, as_json=as_json)
    return ExitCode.OK


def _told(
    version: Version | None, root: Cid, blocks: int, amount: int, source: str, *, as_json: bool
) -> None:
    if as_json:
        out.result_json(
            {
                "schema": 1,
                "kind": "verification",
                "ok": True,
                "model": version.model if version else None,
                "version": version.version if version else None,
                "cid": str(root),
                "blocks": blocks,
                "bytes": amount,
                "source": source,
            }
        )
    else:
        out.result(f"ok: {version.ref} {root}" if version else f"ok: {root}")
        out.say(f"{count(blocks, 'block')}, {size(amount)}, read from {source}")
