"""Commands about the bytes of a bundle: identify, export, pieces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.interrupts import stoppable
from reconciler.cli.options import (
    Directory,
    Hidden,
    IndexFile,
    Json,
    NoCache,
    Ref,
    SourceRoot,
    TargetsFile,
)
from reconciler.errors import ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.render import documents
from reconciler.render.words import count, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.content.car import CarShard
    from reconciler.content.dag import DagLayout

content_commands = typer.Typer()


@content_commands.command()
def identify(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="Directory, or with --bare also a file.")],
    bare: Annotated[
        bool,
        typer.Option("--bare", help="Take DIR exactly as it is: generate no SHA256SUMS and manifest.json."),
    ] = False,
    hidden: Hidden = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model name for the generated manifest (default: the name of the parent directory).",
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Version for the generated manifest (default: the name of DIR)."
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the word of the index
        str | None, typer.Option(metavar="FORMAT", help="Model format for the generated manifest.")
    ] = None,
    created_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Release time for the generated manifest, as 2026-05-07T00:00:00Z."
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Compute the root CID of a directory, offline.

    A bundle is the directory plus SHA256SUMS and manifest.json, which are generated where they are missing. A
    generated manifest contains the model and version: pass those of the index.
    """
    from reconciler.content import profile
    from reconciler.content.bundle import bare_bundle, make_bundle
    from reconciler.content.identify import identify as identify_bundle
    from reconciler.content.scan import scan
    from reconciler.index.versions import plain_version

    if not path.exists():
        raise UsageError(f"no such directory: {str(path)!r}")
    if not bare and not path.is_dir():
        raise UsageError(f"not a directory: {str(path)!r}", hint="--bare accepts a single file")
    if bare:
        bundle = bare_bundle(path, include_hidden=hidden)
    else:
        resolved = path.resolve()
        bundle = make_bundle(
            scan(path, include_hidden=hidden),
            model=model or resolved.parent.name,
            version=plain_version(version) if version else resolved.name,
            format=format,
            created_at=created_at,
        )
    with out.progress() as progress:
        identity = identify_bundle(bundle, cache=None, progress=progress).identity
    if as_json:
        out.result_json(
            documents.identity_document(identity, profile=profile.NAME, generated=bundle.generated)
        )
        return ExitCode.OK
    out.result(str(identity.root))
    made = f", {' and '.join(bundle.generated)} generated" if bundle.generated else ""
    out.say(
        f"{count(len(identity.files), 'file')}, {size(identity.size)}, {count(identity.blocks, 'block')}, "
        f"CAR of {size(identity.car_size)}{made}"
    )
    for note in bundle.notes:
        out.say(f"note: {note}")
    if bundle.listing.hidden:
        left = count(len(bundle.listing.hidden), "hidden entry", "hidden entries")
        out.say(f"note: {left} skipped (--hidden includes them)")
    return ExitCode.OK


@content_commands.command()
def export(
    ref: Ref,
    file: Annotated[Path, typer.Argument(metavar="FILE.car", help="File to create; must not exist.")],
    no_cache: NoCache = False,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Write a version as one CAR file that any IPFS tool can import.

    The bytes come from the directory that the index names, or else from the targets. Every block is verified.
    """
    from reconciler.content.export import export as export_dag
    from reconciler.loop.version_bytes import OpenedVersion, read_version

    layout = find_layout(directory, index, targets, source_root)
    if file.exists():
        raise UsageError(f"{str(file)!r} already exists", hint="choose another name, or delete it first")
    with out.progress() as shown, stoppable(shown) as progress:

        def write(opened: OpenedVersion) -> tuple[DagLayout, str]:
            export_dag(opened.dag, file, progress)
            return opened.dag.layout, opened.source

        dag_layout, source = read_version(
            layout, ref, os.environ, progress, use_cache=not no_cache, read=write
        )
    if as_json:
        out.result_json(documents.export_document(dag_layout, file, source))
    else:
        out.say(f"{size(dag_layout.car_size)} from {source}")
        out.result(str(dag_layout.root))
    return ExitCode.OK


@content_commands.command()
def pieces(
    what: Annotated[str, typer.Argument(metavar="FILE|REF", help="File, or version.")],
    max_piece: Annotated[
        int | None,
        typer.Option(
            "--max-piece",
            metavar="BYTES",
            min=128,
            help="Maximum size of a CAR (default: that of the version's record or target, else 1065353216).",
        ),
    ] = None,
    no_cache: NoCache = False,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Print the Filecoin piece CIDs of a version, one for each of its CARs, or the one of a file.

    Each line has the piece CID (v2), the size of the CAR in bytes, and the CID of the CAR. Pieces in the
    version's record are printed from there; --no-cache computes them again and compares.
    """
    path = Path(what)
    if path.is_file():
        shards: Sequence[CarShard] = _file_pieces(path, max_piece)
        source = what
    elif path.is_dir():
        raise UsageError(
            f"{what!r} is a directory, not a file or a version",
            hint="name the version it belongs to, or a CAR file",
        )
    else:
        from reconciler.loop.version_bytes import version_pieces

        layout = find_layout(directory, index, targets, source_root)
        with out.progress() as shown, stoppable(shown) as progress:
            shards, source = version_pieces(
                layout, what, os.environ, progress, max_piece=max_piece, use_cache=not no_cache
            )
    if as_json:
        out.result_json(documents.pieces_document(shards))
        return ExitCode.OK
    for shard in shards:
        out.result(f"{shard.piece}  {shard.size}  {shard.cid}")
    total = size(sum(shard.size for shard in shards))
    out.say(f"{count(len(shards), 'piece')}, {total}, from {source}")
    return ExitCode.OK


def _file_pieces(path: Path, max_piece: int | None) -> tuple[CarShard]:
    from reconciler.content.pieces import file_piece

    length = path.stat().st_size
    if max_piece is not None and length > max_piece:
        raise UsageError(
            f"{str(path)!r} has {length} bytes, more than --max-piece allows",
            hint="raise --max-piece: a version is split into several CARs, a file never is",
        )
    with out.progress() as progress:
        return (file_piece(path, progress),)
