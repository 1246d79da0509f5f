"""The commands of those who use weights: resolve, fetch, lock, verify."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import options
from reconciler.cli.options import Hidden, Json, NoCache, Ref, takes
from reconciler.cli.reading import Reading
from reconciler.errors import UsageError
from reconciler.index.layout import Layout

reader_app = typer.Typer()

LockFile = Annotated[Path, typer.Option("--lock-file", metavar="FILE", help="Where the lock is.")]


def is_cid(ref: str) -> bool:
    """Whether `ref` names no model, so that it needs no index."""
    from reconciler.index.resolve import parse_ref

    return parse_ref(ref).cid is not None


@reader_app.command()
@takes(options.reading)
def resolve(
    reading: Reading,
    ref: Ref,
    reverse: Annotated[
        bool, typer.Option("--reverse", help="REF is a CID: print every version that has it.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Print the CID of a version: exact, by range, by channel, or the highest.

    Ranges follow npm's rules, skip yanked and retired versions, and take pre-releases only when they name
    one.
    """
    from reconciler.cli.resolve_command import show_resolution, show_versions

    layout = reading.layout()
    assert layout is not None  # noqa: S101  it is not optional
    show = show_versions if reverse else show_resolution
    return show(layout, ref, as_json=as_json)


@reader_app.command()
@takes(options.reading, lazily=True)
def fetch(
    reading: Callable[[], Reading],
    ref: Ref,
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="Where to put the files; must not exist, or be empty.")
    ],
    kubo: Annotated[
        list[str] | None, typer.Option("--kubo", metavar="URL", help="The RPC address of a Kubo node to ask.")
    ] = None,
    store: Annotated[
        list[Path] | None, typer.Option("--store", metavar="DIR", help="A store on this machine.")
    ] = None,
    car: Annotated[
        list[Path] | None, typer.Option("--car", metavar="FILE", help="A CAR of what is wanted.")
    ] = None,
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
    hf_name: Annotated[
        str | None,
        typer.Option(
            "--hf-name", metavar="[ORG/]NAME", help="DEST is a cache of huggingface_hub: name it so there."
        ),
    ] = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Take what models.lock says of REF, and ask no index.")
    ] = False,
    lock_file: LockFile = Path("models.lock"),
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither use nor fill the cache of fetched files.")
    ] = False,
    as_json: Json = False,
    as_events: Annotated[
        bool,
        typer.Option(
            "--json-events", help="Print JSON objects, one a line: what happens as it does, the result last."
        ),
    ] = False,
) -> int:
    """Fetch a version, every block verified, to a directory that is there whole or not at all.

    Sources are those named here, asked all at once; without any, those of the user's configuration, else the
    targets of the repository. What an interrupted fetch verified is kept and not fetched again.
    """
    from reconciler.cli.fetch_command import fetch_version

    where = reading()
    return fetch_version(
        where.layout(optional=locked or is_cid(ref)),
        ref,
        destination,
        where.sources(kubo or (), store or (), car or (), cache_from or ()),
        include=include or (),
        exclude=exclude or (),
        hugging_face_name=hf_name,
        lock=lock_file if locked else None,
        no_cache=no_cache,
        as_json=as_json,
        as_events=as_events,
    )


@reader_app.command()
@takes(options.reading)
def lock(
    reading: Reading,
    refs: Annotated[
        list[str] | None, typer.Argument(metavar="REF...", help="What to lock; without any, what is locked.")
    ] = None,
    lock_file: LockFile = Path("models.lock"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 3 when the lock is stale.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Write down which version and CID references mean today, for `fetch --locked`."""
    from reconciler.cli.lock_command import lock_versions

    layout = reading.layout()
    assert layout is not None  # noqa: S101  it is not optional
    return lock_versions(layout, refs or (), lock_file, check=check, offline=reading.offline, as_json=as_json)


@reader_app.command()
@takes(options.layout, lazily=True)
def verify(
    layout: Callable[[], Layout],
    what: Annotated[
        str | None, typer.Argument(metavar="DIR|REF", help="A directory of a release, or a version.")
    ] = None,
    as_ref: Annotated[
        str | None, typer.Option("--as", metavar="REF", help="The version that DIR should be.")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache", help="Check the cache of fetched files instead.")] = False,
    no_cache: NoCache = False,
    hidden: Hidden = False,
    as_json: Json = False,
) -> int:
    """Check a directory, or a version where it is kept, against the index, reading every byte.

    DIR: find the version whose CID the directory gives, or name every file that is missing, extra or changed,
    and where; nobody is asked. REF: read the version's own directory, or, where that is not on this machine,
    every block from the targets.
    """
    from reconciler.cli.verify_command import verify_cache, verify_directory, verify_version

    if cache:
        return verify_cache(as_json=as_json)
    if what is None:
        raise UsageError("verify what? name a directory or a version", hint="--cache checks fetched files")
    if Path(what).is_dir():
        return verify_directory(
            layout(), Path(what), as_ref=as_ref, hidden=hidden, no_cache=no_cache, as_json=as_json
        )
    return verify_version(layout(), what, no_cache=no_cache, as_json=as_json)
