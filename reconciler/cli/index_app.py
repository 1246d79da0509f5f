"""The commands about the index and its files: those that change no target."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import options
from reconciler.cli.options import Hidden, Json, NoCache, takes
from reconciler.errors import UsageError
from reconciler.loop.settings import Layout

index_app = typer.Typer()


def layout_or_none(layout: Callable[[], Layout], ref: str) -> Layout | None:
    """Where the index is; None where there is none and a CID needs none."""
    try:
        return layout()
    except UsageError:
        from reconciler.index.resolve import parse_ref

        if parse_ref(ref).cid is None:
            raise
        return None


Ref = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="model@1.2.0, model@^1.2, model@CHANNEL, model (the highest), or a CID."
    ),
]


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
def resolve(layout: Layout, ref: Ref, as_json: Json = False) -> int:
    """Print the CID of a version: exact, by range, by channel, or the highest.

    Ranges follow npm's rules, skip yanked and retired versions, and take pre-releases only when they name
    one.
    """
    from reconciler.cli.resolve_command import show_resolution

    return show_resolution(layout, ref, as_json=as_json)


@index_app.command()
@takes(options.layout, lazily=True)
def fetch(
    layout: Callable[[], Layout],
    ref: Ref,
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="Where to put the files; must not exist, or be empty.")
    ],
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", metavar="URL", help="A trustless gateway to ask.")
    ] = None,
    store: Annotated[
        list[Path] | None, typer.Option("--store", metavar="DIR", help="A store on this machine.")
    ] = None,
    kubo: Annotated[
        list[str] | None, typer.Option("--kubo", metavar="URL", help="The RPC address of a Kubo node.")
    ] = None,
    car: Annotated[list[Path] | None, typer.Option("--car", metavar="FILE", help="A CAR of it.")] = None,
    cache_from: Annotated[
        list[Path] | None,
        typer.Option("--cache-from", metavar="DIR", help="The content cache of another machine."),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option("--include", metavar="GLOB", help="Only these files.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="GLOB", help="Not these files.")
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither use nor fill the cache of fetched files.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Fetch a version, every block verified, to a directory that is there whole or not at all.

    Sources are those named here, asked all at once; without any, the targets of the repository. What an
    interrupted fetch verified is kept and not fetched again.
    """
    from reconciler.cli.fetch_command import Places, fetch_version

    places = Places(gateway or (), store or (), kubo or (), car or (), cache_from or ())
    return fetch_version(
        layout_or_none(layout, ref),
        ref,
        destination,
        places,
        include=include or (),
        exclude=exclude or (),
        no_cache=no_cache,
        as_json=as_json,
    )


@index_app.command()
@takes(options.layout)
def verify(
    layout: Layout,
    what: Annotated[str, typer.Argument(metavar="DIR|REF", help="A directory of a release, or a version.")],
    no_cache: NoCache = False,
    hidden: Hidden = False,
    as_json: Json = False,
) -> int:
    """Check a directory, or a version where it is kept, against the index, reading every byte.

    DIR: find the version whose CID the directory gives. REF: read the version's own directory, or, where that
    is not on this machine, every block from the targets.
    """
    from reconciler.cli.verify_command import verify_directory, verify_version

    if Path(what).is_dir():
        return verify_directory(layout, Path(what), hidden=hidden, no_cache=no_cache, as_json=as_json)
    return verify_version(layout, what, no_cache=no_cache, as_json=as_json)


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
) -> int:
    """Make releases/index.yaml and releases/targets.yaml with comments that teach. Overwrites nothing."""
    from reconciler.cli.edit_commands import make_index

    return make_index(directory or context.obj or Path(), id)


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
