"""`reconcile verify`: compare a directory or a version with the index, reading every byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.interrupts import loaded_workspace, stoppable
from reconciler.cli.options import (
    Directory,
    Hidden,
    Identity,
    IndexFile,
    Json,
    NoCache,
    SourceRoot,
    TargetsFile,
)
from reconciler.errors import DataError, ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.index.seal_policy import KEY_ENV
from reconciler.render import documents
from reconciler.render.words import count, plain, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.consume.verify import DirectoryComparison
    from reconciler.content.cid import Cid
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.model import Index, Version

verify_command = typer.Typer()


@verify_command.command()
def verify(
    what: Annotated[
        str | None, typer.Argument(metavar="DIR|REF", help="Directory of a release, or a version.")
    ] = None,
    as_ref: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="REF",
            help="Version to compare DIR with when its CID is unknown (default: the one its manifest names).",
        ),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Verify the content cache instead, and delete damaged files.")
    ] = False,
    oms: Annotated[
        bool,
        typer.Option(
            "--oms", help="Verify a model of somebody else by its OpenSSF Model Signing bundle instead."
        ),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="With --oms: public key of the signer (default: the trust rule for --as NAME, or for the "
            "name of DIR).",
        ),
    ] = None,
    identity: Identity = None,
    no_cache: NoCache = False,
    hidden: Hidden = False,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Verify a directory or a version against the index, reading every byte.

    DIR: find the version that has the CID of the directory, or list every file that is missing, extra or
    changed, with the offsets of the changes; the network is not used. REF: read the directory that the index
    names, or every block from the targets when that directory is not on this machine. DIR with --as, where
    DIR is a git clone of the source that the record of the version names: check the recorded provenance
    against its commit; the clone needs no weights. The plain files of a sealed version are compared by
    sealing them again, with the private key that opens it. A trust rule about the version is enforced in all
    cases.
    """
    if cache:
        return _verify_cache(as_json=as_json)
    if what is None:
        raise UsageError(
            "missing argument: a directory or a version", hint="--cache verifies the content cache"
        )
    if oms:
        from reconciler.cli.verify_oms import verify_oms

        return verify_oms(Path(what), key, as_ref or Path(what).resolve().name, as_json=as_json)
    if key is not None:
        raise UsageError("--key requires --oms", hint="keys of trust rules are in the user's configuration")
    layout = find_layout(directory, index, targets, source_root)
    if Path(what).is_dir():
        return _verify_directory(
            layout,
            Path(what),
            as_ref=as_ref,
            identity=identity,
            hidden=hidden,
            use_cache=not no_cache,
            as_json=as_json,
        )
    return _verify_version(layout, what, use_cache=not no_cache, as_json=as_json)


def _verify_cache(*, as_json: bool) -> int:
    from reconciler.consume.content_cache import ContentCache, default_cache

    with out.progress() as progress:
        files, damaged = ContentCache(default_cache(os.environ)).remove_damaged(progress)
    if as_json:
        out.result_json(documents.cache_document(files, [path.name for path in damaged]))
    else:
        for path in damaged:
            out.result(f"damaged, deleted: {path.name}")
        out.result(f"{count(files - len(damaged), 'file')} in the cache, every byte verified")
    return ExitCode.ERROR if damaged else ExitCode.OK


def _verify_directory(
    layout: RepositoryLayout,
    path: Path,
    *,
    as_ref: str | None,
    identity: Path | None,
    hidden: bool,
    use_cache: bool,
    as_json: bool,
) -> int:
    """Find the version that has the CID of `path`, else compare `path` with the version it should be.

    The directory that the index lists as a version's own is verified as that version's bundle instead, since
    its SHA256SUMS and manifest.json may be generated. Raises DataError when no version has the CID and
    nothing says which version it should be.
    """
    from reconciler.consume.verify import intended_version, version_at, version_with_root
    from reconciler.content.bundle import bare_bundle
    from reconciler.content.identify import identify
    from reconciler.index.load import load_index

    layout.make_state()
    loaded = load_index(layout.index_file, stamps=layout.cache if use_cache else None)
    if as_ref is not None and (code := _verify_clone(layout, path, as_ref, as_json=as_json)) is not None:
        return code
    own = version_at(loaded, layout.source_root, path)
    if own is not None:
        return _verify_version(layout, own.ref, use_cache=use_cache, as_json=as_json)
    with out.progress() as progress:
        bare = identify(bare_bundle(path, include_hidden=hidden), cache=None, progress=progress).identity
    found = version_with_root(loaded, bare.root)
    if found is not None:
        _print_verified(
            found,
            bare.root,
            _trusted(layout, loaded, found, bare.root),
            blocks=bare.blocks,
            amount=bare.size,
            source=str(path),
            as_json=as_json,
        )
        return ExitCode.OK
    expected = intended_version(loaded, path, as_ref)
    if expected is None:
        raise DataError(
            f"{str(path)!r} has the CID {bare.root}, which no version in the index has",
            hint="name the version it should be with --as REF to see the differences",
        )
    sealed = _verify_sealed(layout, loaded, expected, path, bare.root, identity, as_json=as_json)
    return _print_comparison(layout, expected, bare.root, path, as_json=as_json) if sealed is None else sealed


def _verify_sealed(
    layout: RepositoryLayout,
    loaded: Index,
    version: Version,
    path: Path,
    root: Cid,
    identity: Path | None,
    *,
    as_json: bool,
) -> int | None:
    """Compare plain files, whose own root is `root`, with a sealed version; None for one that is not sealed.

    Raises UsageError without a private key.
    """
    from reconciler.consume.verify_sealed import compare_sealed
    from reconciler.index.identities import identities_from
    from reconciler.index.records import load_record, records_directory

    record = load_record(records_directory(layout.index_file), version.model, version.version)
    if record is None or record.inputs is None or record.inputs.sealing is None:
        return None
    variable = version.seal.key_env if version.seal is not None else KEY_ENV
    identities = identities_from(os.environ, file=identity, variable=variable)
    if not identities:
        raise UsageError(
            f"{version.ref} is sealed, and no private key is at hand to compare plain files with it",
            hint=f"give one with --identity FILE or {variable}",
        )
    with out.progress() as progress:
        sealing = record.inputs.sealing
        found, comparison = compare_sealed(path, record, sealing, layout.index_file, identities, progress)
    if found is None or found.root != version.cid:
        return _print_differences(version, found.root if found else root, path, comparison, as_json=as_json)
    signers = _trusted(layout, loaded, version, found.root)
    _print_verified(
        version,
        found.root,
        signers,
        blocks=found.blocks,
        amount=found.size,
        source=str(path),
        as_json=as_json,
    )
    return ExitCode.OK


def _verify_clone(layout: RepositoryLayout, clone: Path, ref: str, *, as_json: bool) -> int | None:
    """Check the provenance of a version against a clone of its source; None when `clone` is none."""
    from reconciler.index.load import load_index
    from reconciler.index.records import load_record, records_directory
    from reconciler.index.resolve import parse_ref, resolve
    from reconciler.loop.provenance import check_against_clone, has_revision

    index = load_index(layout.index_file)
    version = resolve(index, parse_ref(ref)).version
    if version is None:
        return None
    record = load_record(records_directory(layout.index_file), version.model, version.version)
    provenance = None if record is None else record.provenance
    if record is None or provenance is None or not has_revision(clone, provenance):
        return None
    _trusted(layout, index, version, record.cid)
    found = check_against_clone(clone, record, provenance)
    if as_json:
        document = documents.provenance_document(version, record.cid, provenance, files=found.files)
        out.result_json(document)
    else:
        out.result(f"ok: {version.ref} {record.cid} is {provenance.source}")
        out.say(f"{count(found.files, 'file')} as in the commit, without reading weights")
        if found.unproven:
            out.say(f"{count(found.unproven, 'file')} without a git id in the record")
    return ExitCode.OK


def _print_comparison(
    layout: RepositoryLayout, version: Version, root: Cid, path: Path, *, as_json: bool
) -> int:
    """Print how the directory `path`, whose root is `root`, differs from `version`."""
    from reconciler.consume.verify import compare_directory, tree_from_stores
    from reconciler.index.records import records_directory
    from reconciler.loop.settings import Scope

    with out.progress() as progress:
        with loaded_workspace(Scope(layout), os.environ, progress) as workspace:
            tree = tree_from_stores(workspace.targets.values(), version.cid) if version.cid else None
        found = compare_directory(path, version, tree, records_directory(layout.index_file), progress)
    return _print_differences(version, root, path, found, as_json=as_json)


def _print_differences(
    version: Version, root: Cid, path: Path, found: DirectoryComparison, *, as_json: bool
) -> int:
    if as_json:
        out.result_json(documents.difference_document(version, root, path, found))
    else:
        for each in found.differences:
            leaves = count(len(each.offsets), "leaf", "leaves")
            where = f"  ({leaves}, the first at byte {each.offsets[0]})" if each.offsets else ""
            out.result(f"{each.kind.value:<8} {plain(each.path)}{where}")
        number = count(len(found.differences), "file differs", "files differ")
        out.say(f"{str(path)!r} is not {version.ref}: {number}")
    return ExitCode.ERROR


def _verify_version(layout: RepositoryLayout, ref: str, *, use_cache: bool, as_json: bool) -> int:
    """Read every block of a version from its own directory, else from the targets.

    Raises DataError, BundleError, and TrustError before anything is read.
    """
    from reconciler.content.dag import verify_blocks
    from reconciler.index.load import load_index
    from reconciler.index.resolve import parse_ref, resolve
    from reconciler.loop.version_bytes import open_version

    layout.make_state()
    loaded = load_index(layout.index_file, stamps=layout.cache if use_cache else None)
    found = resolve(loaded, parse_ref(ref, with_path=True))
    signers = _trusted(layout, loaded, found.version, found.cid)
    with (
        out.progress() as shown,
        stoppable(shown) as progress,
        open_version(layout, ref, os.environ, progress, use_cache=use_cache, fresh=True) as opened,
    ):
        blocks = opened.dag.layout
        if not opened.verified:
            with progress.task(f"verify {opened.name}", blocks.size) as task:
                verify_blocks(opened.dag, task)
    _print_verified(
        opened.version,
        blocks.root,
        signers,
        blocks=len(blocks),
        amount=blocks.size,
        source=opened.source,
        as_json=as_json,
    )
    return ExitCode.OK


def _trusted(layout: RepositoryLayout, index: Index, version: Version | None, root: Cid) -> tuple[str, ...]:
    """Return who signed a version, as far as a trust rule of the user accepts them. Raises TrustError."""
    from reconciler.consume.trusted import trust_check

    names = ("", "") if version is None else (version.model, version.version)
    outcome = trust_check(layout, index).require(*names, root)
    for warning in outcome.warnings:
        out.warn(warning)
    return outcome.signers


def _print_verified(
    version: Version | None,
    root: Cid,
    signers: Sequence[str],
    *,
    blocks: int,
    amount: int,
    source: str,
    as_json: bool,
) -> None:
    if as_json:
        document = documents.verified_document(
            version, root, signers, blocks=blocks, size=amount, source=source
        )
        out.result_json(document)
    else:
        out.result(f"ok: {version.ref} {root}" if version else f"ok: {root}")
        if signers:
            out.say(f"signed by {', '.join(map(plain, signers))}")
        out.say(f"{count(blocks, 'block')}, {size(amount)}, read from {source}")
