"""`reconcile verify`: a directory, or a version where it is kept, against the index; every byte is read."""

from __future__ import annotations

from pathlib import Path

from reconciler.cli import output as out
from reconciler.cli.bytes_of import bytes_of
from reconciler.content.bundle import bare_bundle
from reconciler.content.cid import Cid
from reconciler.content.identify import identify
from reconciler.errors import DataError, ExitCode
from reconciler.index.load import load_index
from reconciler.index.model import Index, Version
from reconciler.loop.settings import Layout
from reconciler.render.words import count, size


def verify_directory(layout: Layout, path: Path, *, hidden: bool, no_cache: bool, as_json: bool) -> int:
    """Find the version whose CID `path` gives, exactly as it is. Raises DataError when there is none.

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
        raise DataError(
            f"{str(path)!r} gives {dag.identity.root}, which no version in the index has",
            hint="a file is missing, extra or changed; compare with `sha256sum -c SHA256SUMS` inside it",
        )
    _told(versions[0], dag.identity.root, dag.identity.blocks, dag.identity.size, str(path), as_json=as_json)
    return ExitCode.OK


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
