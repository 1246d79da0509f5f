"""The commands about the index and its files: those that change no target."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import options
from reconciler.cli.options import Hidden, Json, NoCache, Ref, takes
from reconciler.index.layout import Layout

index_app = typer.Typer()


@index_app.command()
def identify(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A directory, or with --bare also a file.")
    ],
    bare: Annotated[
        bool, typer.Option("--bare", help="Exactly as it is: no SHA256SUMS, no manifest.json.")
    ] = False,
    hidden: Hidden = False,
    model: Annotated[
        str | None, typer.Option(help="The model's name, for a generated manifest.json.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="The version, likewise.")] = None,
    format: Annotated[str | None, typer.Option(help="The format, likewise.")] = None,  # noqa: A002
    created_at: Annotated[str | None, typer.Option(help="The release time, likewise.")] = None,
    as_json: Json = False,
) -> int:
    """Compute the root CID of a directory, offline, as every target will have it.

    The bundle is the directory plus SHA256SUMS and manifest.json where it lacks them. A generated manifest
    names model and version, so give them as the index has them (they default to the names of the last two
    directories).
    """
    from reconciler.cli.content_commands import show_identity

    return show_identity(
        directory,
        bare=bare,
        hidden=hidden,
        model=model,
        version=version,
        format=format,
        created_at=created_at,
        as_json=as_json,
    )


@index_app.command()
@takes(options.layout)
def export(
    layout: Layout,
    ref: Ref,
    file: Annotated[Path, typer.Argument(metavar="FILE.car", help="Where to write; must not exist.")],
    no_cache: NoCache = False,
    as_json: Json = False,
) -> int:
    """Write a version as one CAR file that any IPFS tool imports.

    The bytes come from the version's own directory, or from the targets; every block is verified on the way.
    """
    from reconciler.cli.content_commands import export_version

    return export_version(layout, ref, file, no_cache=no_cache, as_json=as_json)


@index_app.command()
@takes(options.layout, lazily=True)
def pieces(
    layout: Callable[[], Layout],
    what: Annotated[str, typer.Argument(metavar="FILE|REF", help="A file as it is, or a version.")],
    max_piece: Annotated[
        int | None,
        typer.Option(
            "--max-piece",
            metavar="BYTES",
            min=128,
            help="No CAR larger than this; default: as the version's record or target has it, or 1065353216.",
        ),
    ] = None,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> int:
    """Print the Filecoin piece CIDs of a version, one for each CAR it is cut into, or of one file.

    Each line has the piece CID (v2), the bytes of the CAR, and the CAR's own CID. Pieces that the version's
    record has are printed from there; --no-cache computes them anew and compares.
    """
    from reconciler.cli.pieces_command import show_pieces

    return show_pieces(layout, what, max_piece=max_piece, no_cache=no_cache, as_json=as_json)


@index_app.command()
@takes(options.layout)
def add(
    layout: Layout,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model of the index, or a new one.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A new SemVer version, such as 1.2.0.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="The directory with its files.")],
    format: Annotated[  # noqa: A002 - the word of the index
        str | None, typer.Option(help="Format of a new model, such as safetensors.")
    ] = None,
    license: Annotated[  # noqa: A002 - the word of the index
        str | None, typer.Option(help="License of a new model, as SPDX names it.")
    ] = None,
    created_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Release time, as 2026-05-07T00:00:00Z; default: now.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Add a version to the index, changing no other line. The next run resolves its CID."""
    from reconciler.cli.edit_commands import add_version_to_index

    return add_version_to_index(
        layout, model, version, path, format=format, license=license, created_at=created_at, as_json=as_json
    )


@index_app.command()
def init(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Option("-C", metavar="DIR", help="The repository, not this one.")
    ] = None,
    id: Annotated[  # noqa: A002
        str | None,
        typer.Option("--id", metavar="ID", help="The ownership mark; default: the directory's name."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Make releases/index.yaml and releases/targets.yaml with comments that teach. Overwrites nothing."""
    from reconciler.cli.edit_commands import make_index

    return make_index(directory or context.obj or Path(), id, as_json=as_json)


@index_app.command()
@takes(options.layout)
def check(
    layout: Layout,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="REF", help="Compare with this commit, not the whole history."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Check the index, the targets file and the records, offline: no target is asked, no weights are needed.

    Refused (exit 4) when a released CID changed or a protected version went, compared with the history of
    HEAD or with --base. Meant for every pull request.
    """
    from reconciler.cli.history_commands import check_index

    return check_index(layout, base=base, as_json=as_json)


@index_app.command()
@takes(options.layout)
def log(
    layout: Layout,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model of the index, or one that was in it.")
    ],
    as_json: Json = False,
) -> int:
    """Show who released what and when, from the git history of the index; newest first."""
    from reconciler.cli.history_commands import show_log

    return show_log(layout, model, as_json=as_json)
