"""`reconcile verify`: a directory, or a version where it is kept, against the index; every byte is read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from reconciler.cli import output as out
from reconciler.cli.bytes_of import bytes_of
from reconciler.consume.compare import by_leaves, by_sums
from reconciler.consume.content_cache import ContentCache, default_cache
from reconciler.consume.fetch import read_tree
from reconciler.consume.local import target_source
from reconciler.consume.peers import SourcePool, TrackedSource
from reconciler.content import checksums, manifest
from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.identify import identify
from reconciler.content.walk import DagMap
from reconciler.errors import DataError, ExitCode, ReconcilerError
from reconciler.index.layout import Layout
from reconciler.index.load import load_index
from reconciler.index.model import Index, Version
from reconciler.index.recorded import records_directory
from reconciler.index.records import load_record
from reconciler.index.resolve import parse_ref, resolve
from reconciler.loop.run import Run
from reconciler.loop.settings import Settings
from reconciler.progress import Progress
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
    own = _version_at(index, layout.source_root, path)
    if own is not None:
        return verify_version(layout, own.ref, no_cache=no_cache, as_json=as_json)
    with out.progress() as progress:
        dag = identify(bare_bundle(path, include_hidden=hidden), cache=None, progress=progress)
    versions = _versions_of(index, dag.identity.root)
    if not versions:
        meant = _meant(index, path, as_ref)
        if meant is None:
            raise DataError(
                f"{str(path)!r} gives {dag.identity.root}, which no version in the index has",
                hint="say with --as REF which version it should be, to see what differs",
            )
        return _compare(layout, meant, dag.identity.root, path, as_json=as_json)
    _told(versions[0], dag.identity.root, dag.identity.blocks, dag.identity.size, str(path), as_json=as_json)
    return ExitCode.OK


def verify_cache(*, as_json: bool) -> int:
    """Hash every file in the content cache and throw damaged ones away; exit 1 when there were any."""
    cache = ContentCache(default_cache(os.environ))
    files = list(cache)
    damaged: list[Path] = []
    with out.progress() as progress, progress.task("verify the cache", None) as task:
        for cid, path in files:
            root = identify(bare_bundle(path), cache=None).identity.root
            task.advance(path.stat().st_size)
            if root != cid:
                damaged.append(path)
                cache.drop(path)
    if as_json:
        names = [path.name for path in damaged]
        out.result_json(
            {"schema": 1, "kind": "cache", "ok": not damaged, "files": len(files), "damaged": names}
        )
    else:
        for path in damaged:
            out.result(f"damaged, and thrown away: {path.name}")
        out.result(f"{count(len(files) - len(damaged), 'file')} in the cache, every byte verified")
    return ExitCode.ERROR if damaged else ExitCode.OK


def _meant(index: Index, path: Path, as_ref: str | None) -> Version | None:
    """The version that a directory should be: as told, else as its own manifest says."""
    if as_ref is not None:
        return resolve(index, parse_ref(as_ref)).version
    try:
        with (path / manifest.NAME).open("rb") as file:
            said = json.loads(file.read(manifest.MAX_SIZE))
        return index.models[said["model"]].versions[said["version"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _compare(layout: Layout, version: Version, root: Cid, path: Path, *, as_json: bool) -> int:
    """Name what differs: by leaves where a store here has the tree, else by the directory's own sums."""
    with out.progress() as progress:
        tree = _tree(layout, version, progress)
        if tree is not None:
            differences, by = by_leaves(tree, path, progress), "blocks"
        else:
            differences, by = by_sums(_proven_sums(layout, version, path), path, progress), "sums"
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
                "compared_by": by,
                "source": str(path),
                "differences": [
                    {"path": each.path, "kind": each.kind.value, "offsets": list(each.offsets)}
                    for each in differences
                ],
            }
        )
    else:
        for each in differences:
            leaves = count(len(each.offsets), "leaf", "leaves")
            where = f"  ({leaves}, the first at byte {each.offsets[0]})" if each.offsets else ""
            out.result(f"{each.kind.value:<8} {plain(each.path)}{where}")
        out.say(
            f"{str(path)!r} is not {version.ref}: {count(len(differences), 'file differs', 'files differ')}"
        )
    return ExitCode.ERROR


def _tree(layout: Layout, version: Version, progress: Progress) -> DagMap | None:
    """The tree of a version from a store on this machine; nobody else is asked."""
    with Run(Settings(layout), os.environ, progress) as run:
        for target in run.targets.values():
            if target.kind != "store" or version.cid is None:
                continue
            try:
                blocks = target_source(target, version.cid)
            except ReconcilerError:
                continue
            try:
                return read_tree(version.cid, SourcePool([TrackedSource(blocks)]))
            except ReconcilerError:
                continue
            finally:
                blocks.close()
    return None


def _proven_sums(layout: Layout, version: Version, path: Path) -> bytes:
    """The directory's own SHA256SUMS, when the version's record says that it is the released one."""
    record = load_record(records_directory(layout.index_file), version.model, version.version)
    try:
        with (path / checksums.NAME).open("rb") as file:
            sums = file.read(checksums.MAX_SIZE)
    except OSError:
        sums = b""
    if record is None or hashlib.sha256(sums).hexdigest() != record.dirhash:
        raise DataError(
            f"{str(path)!r} is not {version.ref}, and nothing here says what differs",
            hint="its SHA256SUMS is not the released one, and no store on this machine has the version",
        )
    return sums


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


def _version_at(index: Index, source_root: Path, path: Path) -> Version | None:
    """The version whose own directory `path` is."""
    place = path.resolve()
    for version in index.versions():
        if version.path is not None and (source_root / version.path).resolve() == place:
            return version
    return None


def _versions_of(index: Index, root: Cid) -> list[Version]:
    return [version for version in index.versions() if version.cid == root]


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
