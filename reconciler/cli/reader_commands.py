"""Commands for consumers of the weights: resolve, fetch, get, lock."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.fast_resolve import show_resolution
from reconciler.cli.options import (
    AnyIndex,
    Directory,
    Gateways,
    Identity,
    IndexFile,
    Json,
    Offline,
    Ref,
    TargetsFile,
)
from reconciler.cli.reader_options import ReaderOptions, download_limits
from reconciler.download.limits import CONNECTIONS_LIMIT
from reconciler.errors import ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.render import documents
from reconciler.render.words import count, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.consume.fetch import Fetched
    from reconciler.consume.lock_file import LockEntry
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.model import Version

reader_commands = typer.Typer()


class PresentCheck(StrEnum):
    """How a complete destination is recognized."""

    RECEIPT = "receipt"
    FULL = "full"


Sealed = Annotated[bool, typer.Option("--sealed", help="Keep a sealed version encrypted.")]
LockFile = Annotated[Path, typer.Option("--lock-file", metavar="FILE", help="Path of the lock file.")]


@reader_commands.command()
def resolve(
    ref: Ref,
    reverse: Annotated[
        bool, typer.Option("--reverse", help="Print every version that has the CID given as REF.")
    ] = False,
    as_json: Json = False,
    directory: Directory = None,
    index: AnyIndex = None,
    offline: Offline = False,
    gateway: Gateways = None,
) -> int:
    """Print the CID of a version.

    Ranges follow npm's rules. They skip yanked and retired versions, and match a pre-release only when the
    range itself names one.
    """
    layout = ReaderOptions(directory, index, offline, gateway or ()).layout()
    if reverse:
        return _show_versions(layout, ref, as_json=as_json)
    return show_resolution(layout, ref, as_json=as_json)


def _show_versions(layout: RepositoryLayout, ref: str, *, as_json: bool) -> int:
    """Print every version that has the CID `ref`, in the order of the index."""
    from reconciler.index.load import load_index
    from reconciler.index.resolve import parse_ref

    cid = parse_ref(ref, with_path=True).cid  # a link to a file names the version that has it
    if cid is None:
        raise UsageError(f"{ref!r} is not a CID", hint="--reverse finds the versions of a CID")
    found = [version for version in load_index(layout.index_file).versions() if version.cid == cid]
    if as_json:
        out.result_json(documents.versions_document(cid, found))
    else:
        for version in found:
            out.result(version.ref)
    if not found:
        out.say(f"no version in {str(layout.index_file)!r} has {cid}")
    return ExitCode.OK if found else ExitCode.ERROR


# -- fetch ---------------------------------------------------------------------------------------------------


@reader_commands.command()
def fetch(
    ref: Ref,
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="Directory to create, or to bring to this version.")
    ],
    kubo: Annotated[
        list[str] | None,
        typer.Option(
            "--kubo", metavar="URL", help="RPC address of a Kubo node to fetch from; may be repeated."
        ),
    ] = None,
    store: Annotated[
        list[Path] | None,
        typer.Option("--store", metavar="DIR", help="Local store to read from; may be repeated."),
    ] = None,
    car: Annotated[
        list[Path] | None,
        typer.Option("--car", metavar="FILE", help="CAR file to read from; may be repeated."),
    ] = None,
    cache_from: Annotated[
        list[Path] | None,
        typer.Option(
            "--cache-from", metavar="DIR", help="Content cache of another machine to read; may be repeated."
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="GLOB", help="Fetch only matching files; may be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="GLOB", help="Skip matching files; may be repeated."),
    ] = None,
    hf_name: Annotated[
        str | None,
        typer.Option(
            "--hf-name",
            metavar="[ORG/]NAME",
            help="Treat DEST as a cache of huggingface_hub and add the version under this repository name.",
        ),
    ] = None,
    locked: Annotated[
        bool,
        typer.Option("--locked", help="Take the CID of REF from the lock file and read no index."),
    ] = False,
    lock_file: LockFile = Path("models.lock"),
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither read nor fill the content cache.")
    ] = False,
    connections: Annotated[
        int | None,
        typer.Option(
            "--connections",
            metavar="N",
            min=1,
            max=CONNECTIONS_LIMIT,
            help="Open at most N connections to each source (default: 32, or as configured).",
        ),
    ] = None,
    max_rate: Annotated[
        str | None,
        typer.Option(
            "--max-rate",
            metavar="RATE",
            help="Fetch at most RATE bytes per second, such as 20M (default: no limit, or as configured).",
        ),
    ] = None,
    check: Annotated[
        PresentCheck,
        typer.Option(
            help="How to recognize a DEST that is complete: by its receipt if there is one, or in full."
        ),
    ] = PresentCheck.RECEIPT,
    as_json: Json = False,
    identity: Identity = None,
    sealed: Sealed = False,
    as_events: Annotated[
        bool,
        typer.Option(
            "--json-events", help="Print progress as one JSON object per line, followed by the result."
        ),
    ] = False,
    directory: Directory = None,
    index: AnyIndex = None,
    offline: Offline = False,
    gateway: Gateways = None,
) -> int:
    """Fetch a version, verify every block, and create its directory atomically.

    A DEST that has another version is brought to this one: unchanged files are not fetched again, and local
    changes are refused.

    All sources given as options are used at once. Without any, those of the user's configuration are used, or
    else the targets of the repository. An interrupted fetch resumes from the blocks it had verified.
    """
    from reconciler.consume import hugging_face_cache
    from reconciler.consume.lock_file import locked_entry
    from reconciler.consume.open import content_caches, fetch_opened, open_ref, receipt_book
    from reconciler.index.resolve import parse_ref

    options = ReaderOptions(directory, index, offline, gateway or ())
    needs_no_index = locked or parse_ref(ref, with_path=True).cid is not None
    layout = options.layout_if_any() if needs_no_index else options.layout()
    limits = download_limits(connections, max_rate)
    sources = options.sources(nodes=kubo or (), stores=store or (), cars=car or (), caches=cache_from or ())
    entry = locked_entry(lock_file, ref) if locked else None
    named = None if entry is None else (entry.model, entry.version)
    wanted = ref if entry is None else str(entry.cid)
    with (
        out.progress(events=as_events) as progress,
        open_ref(layout, wanted, sources, progress, named=named, offline=offline) as opened,
    ):
        for warning in opened.warnings:
            out.warn(warning)
        repository = hugging_face_cache.repository(destination, hf_name) if hf_name is not None else None
        done = fetch_opened(
            opened,
            layout,
            destination if repository is None else hugging_face_cache.snapshot(repository, opened.root),
            progress,
            include=include or (),
            exclude=exclude or (),
            caches=content_caches(sources, own=not no_cache),
            update=True,
            receipts=receipt_book(),
            trust_receipt=check is PresentCheck.RECEIPT,
            limits=limits,
            identity=identity,
            keep_sealed=sealed,
        )
        if repository is not None:
            hugging_face_cache.write_refs(repository, opened.root, _ref_names(ref, opened.version))
    if as_json or as_events:
        out.result_json(documents.fetch_document(done, opened.version, opened.signers), line=as_events)
    else:
        _print_fetched(done, opened.signers)
        out.result(str(destination if repository is None else done.destination))
    return ExitCode.OK


def _ref_names(ref: str, version: Version | None) -> list[str]:
    """Return the names under which readers may look for a version: its number, and the requested channel."""
    from reconciler.index.resolve import Channel, parse_ref

    selector = parse_ref(ref, with_path=True).selector
    channel = [selector.name] if isinstance(selector, Channel) else []
    return [*([version.version] if version else []), *channel]


def _print_fetched(done: Fetched, signers: Sequence[str]) -> None:
    for source in done.sources:
        if source.dropped:
            out.warn(f"{source.name} was dropped: {source.dropped}")
    if signers:
        out.say(f"signed by {', '.join(signers)}")
    amount = f"{count(done.files, 'file')}, {size(done.size)}"
    if done.already:
        how = "unchanged by its receipt, not read" if done.by_receipt else "every block verified"
        out.say(f"{amount}: already present, {how}")
        return
    parts = [f"{size(source.bytes)} from {source.name}" for source in done.sources if source.bytes]
    parts += [f"{size(done.resumed)} from an interrupted fetch"] if done.resumed else []
    parts += [f"{size(done.reused)} from the directory that was there"] if done.reused else []
    parts += [f"{size(done.cached)} from the cache"] if done.cached else []
    sums = "; SHA256SUMS matches" if done.sums else ""
    out.say(f"{amount}: {', '.join(parts)}; every block verified{sums}")


@reader_commands.command()
def get(
    cid: Annotated[str, typer.Argument(metavar="CID", help="CID that `reconcile put` printed.")],
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="File or directory to create; must not exist.")
    ],
    identity: Identity = None,
    sealed: Sealed = False,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
) -> int:
    """Fetch a CID from the targets and verify every block."""
    from reconciler.consume.open import Sources, fetch_opened, open_ref
    from reconciler.index.resolve import parse_ref

    layout = find_layout(directory, index, targets)
    if parse_ref(cid, with_path=True).cid is None:
        raise UsageError(f"{cid!r} is not a CID", hint="get takes a CID; `reconcile fetch` takes versions")
    with (
        out.progress() as progress,
        open_ref(layout, cid, Sources(), progress) as opened,
    ):
        for warning in opened.warnings:
            out.warn(warning)
        done = fetch_opened(opened, layout, destination, progress, identity=identity, keep_sealed=sealed)
    if as_json:
        out.result_json(documents.fetch_document(done, opened.version, opened.signers))
    else:
        _print_fetched(done, opened.signers)
        out.result(str(destination))
    return ExitCode.OK


# -- lock ----------------------------------------------------------------------------------------------------


@reader_commands.command()
def lock(
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="REF...", help="References to lock (default: those in the lock file)."),
    ] = None,
    lock_file: LockFile = Path("models.lock"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 3 when the lock file is stale.")
    ] = False,
    as_json: Json = False,
    directory: Directory = None,
    index: AnyIndex = None,
    offline: Offline = False,
    gateway: Gateways = None,
) -> int:
    """Record which version and CID each reference resolves to, for `fetch --locked`.

    Entries of other references are kept.
    """
    from reconciler.consume.lock_file import lock_reference, read_lock, write_lock
    from reconciler.index.load import load_index

    layout = ReaderOptions(directory, index, offline, gateway or ()).layout()
    known = read_lock(lock_file) if lock_file.exists() or not refs else {}
    loaded = load_index(layout.index_file)
    fresh: dict[str, LockEntry] = {}
    for ref in refs or known:
        fresh[ref], problem = lock_reference(layout, loaded, ref, offline=offline)
        if problem:
            out.warn(problem)
    # A new commit of the index alone changes nothing: the index moves on with every model.
    changed = [ref for ref, entry in fresh.items() if ref not in known or known[ref].cid != entry.cid]
    if not check and (changed or not lock_file.exists()):
        kept = {ref: entry for ref, entry in known.items() if ref not in changed}
        write_lock(lock_file, {**fresh, **kept})
    if as_json:
        out.result_json(
            documents.lock_document(
                lock_file, list(fresh.values()), changed=changed, stale=check and bool(changed)
            )
        )
    else:
        _print_lock(lock_file, known, fresh, changed, check=check)
    return ExitCode.PENDING if check and changed else ExitCode.OK


def _print_lock(
    file: Path,
    known: Mapping[str, LockEntry],
    fresh: Mapping[str, LockEntry],
    changed: Sequence[str],
    *,
    check: bool,
) -> None:
    for ref in changed:
        before = f"{known[ref].version} -> " if ref in known else ""
        out.say(f"{ref}: {before}{fresh[ref].version}")
    if not changed:
        out.result(f"{file} is up to date")
    else:
        out.result(f"{file} is stale; `reconcile lock` updates it" if check else f"{file} written")
