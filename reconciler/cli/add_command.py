"""The command add: a new version in the index, from a directory, a CAR file or a source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.options import Directory, IndexFile, Json, SourceRoot
from reconciler.errors import ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.render import documents
from reconciler.render.words import count, plain, size

if TYPE_CHECKING:
    from reconciler.content.lint.finding import Finding
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.model import Index, Version
    from reconciler.loop.add_source import FoundSource, NextVersion

add_command = typer.Typer()


@add_command.command()
def add(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model in the index, or a new one.")],
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="New SemVer version, such as 1.2.0.")
    ] = None,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH|SOURCE",
            help="Directory or CAR file of the version, or its source, such as hf:org/name@main.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the word of the index
        str | None,
        typer.Option(metavar="FORMAT", help="Format of a new model, such as safetensors."),
    ] = None,
    license: Annotated[  # noqa: A002 - the word of the index
        str | None, typer.Option(metavar="ID", help="License of a new model, as an SPDX identifier.")
    ] = None,
    created_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Release time, as 2026-05-07T00:00:00Z (default: now)."),
    ] = None,
    from_upstream: Annotated[
        bool,
        typer.Option(
            "--from-upstream",
            help="Add what the main branch of the model's repository has now (VERSION defaults to the next).",
        ),
    ] = False,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Add a version to the index and change no other line. The next run resolves its CID.

    The files are those of a directory, of a CAR file, which is verified first, or of a source, of which only
    the listing and headers of files are read: a branch or tag becomes the commit that it is now.
    """
    from reconciler.index.load import load_index

    layout = find_layout(directory, index, source_root=source_root)
    loaded = load_index(layout.index_file)
    wanted = _wanted(loaded, model, version, path, from_upstream=from_upstream)
    created_at = created_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    done = _add(layout, loaded, model, wanted, created_at=created_at, format=format, license=license)
    if as_json:
        found = done.source
        out.result_json(
            documents.added_document(
                model,
                wanted.version,
                path=done.version.path,
                source=None if found is None else str(found.reference),
                resolved=None if found is None else found.asked or None,
                license=done.version.license,
                format=done.version.format,
                created_at=created_at,
                index=layout.index_file,
                findings=done.files.findings,
            )
        )
        return ExitCode.OK
    out.result(f"added {model}@{wanted.version} to {layout.index_file}")
    if done.source is not None:
        _print_source(done.source, done.version)
    out.say(
        f"{count(done.files.files, 'file')}, {size(done.files.size)}, in {plain(done.version.origin or '')}"
    )
    for note in done.files.notes:
        out.say(f"note: {plain(note)}")
    _print_findings(done.version.ref, done.files.findings)
    out.say("next: `reconcile --dry-run` shows what a run would do")
    return ExitCode.OK


@dataclass(frozen=True, slots=True)
class _WantedVersion:
    """What the arguments ask for; `after` is the version that it follows, from upstream."""

    version: str
    path: str
    after: NextVersion | None = None


@dataclass(frozen=True, slots=True)
class _AddedFiles:
    """The files of a new version: how many, their bytes, notes for the user, and what a run will say."""

    files: int
    size: int
    notes: list[str]
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class _AddedVersion:
    """A version that was added: its entry, its files, and what its source stated, if it has one."""

    version: Version
    files: _AddedFiles
    source: FoundSource | None


def _wanted(
    index: Index, model: str, version: str | None, path: str | None, *, from_upstream: bool
) -> _WantedVersion:
    from reconciler.index.versions import plain_version

    if not from_upstream:
        if version is None or path is None:
            hint = "give MODEL, VERSION and PATH; `reconcile add --help` explains them"
            raise UsageError(f"missing argument {'VERSION' if version is None else 'PATH|SOURCE'}", hint=hint)
        return _WantedVersion(plain_version(version), path)
    if path is not None:
        raise UsageError("--from-upstream takes the source of the last version", hint="leave PATH|SOURCE out")
    from reconciler.loop.add_source import next_from_upstream

    after = next_from_upstream(index.models, model)
    return _WantedVersion(plain_version(version or after.version), after.source, after)


def _add(
    layout: RepositoryLayout,
    index: Index,
    model: str,
    wanted: _WantedVersion,
    *,
    created_at: str,
    format: str | None,  # noqa: A002 - the word of the index
    license: str | None,  # noqa: A002
) -> _AddedVersion:
    """Write the version to the index once its files are known. Raises what reading them raises."""
    from reconciler.content.patterns import ALL_FILES
    from reconciler.index.edits import add_version, write_edit
    from reconciler.index.load import parse_index
    from reconciler.loop.add_source import is_source

    text = layout.index_file.read_bytes().decode("utf-8")
    source = relative = None
    if is_source(wanted.path, layout.source_root):
        source = _find_source(layout, index, model, wanted)
        if model not in index.models:
            format, license = format or source.format, license or source.license  # noqa: A001
    else:
        relative = _relative_path(layout, wanted.path)
    after = wanted.after
    edited = add_version(
        text,
        model,
        wanted.version,
        path=relative,
        source=None if source is None else str(source.reference),
        created_at=created_at,
        hidden=after is not None and after.hidden,
        patterns=after.patterns if after is not None and after.patterns is not None else ALL_FILES,
        kind=source.kind if source is not None and model not in index.models else None,
        format=format,
        license=license,
        name=str(layout.index_file),
    )
    version = parse_index(edited, layout.index_file).models[model].versions[wanted.version]
    if source is not None:
        files = _list_source(source, layout, version)
    else:
        where = layout.source_root / (relative or "")
        files = _check_car(where, version) if where.is_file() else _scan_directory(where, layout, version)
    write_edit(layout.index_file, text, edited)
    return _AddedVersion(version, files, source)


def _find_source(layout: RepositoryLayout, index: Index, model: str, wanted: _WantedVersion) -> FoundSource:
    """Ask the source. Raises UsageError when upstream has nothing newer, and SourceError."""
    from reconciler.index.sources_file import load_sources
    from reconciler.loop.add_source import find_source

    specs = {spec.name: spec for spec in load_sources(layout.sources_file)}
    found = find_source(wanted.path, specs, layout.root, os.environ)
    same = [
        each.version
        for each in (index.models[model].versions.values() if model in index.models else ())
        if each.source == found.reference
    ]
    if same:
        raise UsageError(
            f"{model}@{same[0]} already has the source {found.reference}",
            hint="upstream has no newer commit" if wanted.after else "choose another commit",
        )
    return found


def _list_source(found: FoundSource, layout: RepositoryLayout, version: Version) -> _AddedFiles:
    """Select the files of a source, and examine them; headers of files are read, not more."""
    from reconciler.content.bundle import collision_notes
    from reconciler.index.sources_file import load_sources
    from reconciler.loop.add_source import select_files

    specs = {spec.name: spec for spec in load_sources(layout.sources_file)}
    selected = select_files(found, version, specs[found.reference.name], layout.root, os.environ)
    if not selected.listing.files:
        raise UsageError(f"no files in {str(found.reference)!r}", hint="check `include` and `exclude`")
    listing = selected.listing
    notes = [*found.notes, *collision_notes(listing.collisions), *_left_out(listing.hidden, listing.excluded)]
    return _AddedFiles(len(listing.files), listing.size, notes, selected.findings)


def _print_source(found: FoundSource, version: Version) -> None:
    reference = found.reference
    if found.asked:
        out.say(f"{plain(found.asked)} is the commit {reference.revision}")
    license = version.license or "not stated"  # noqa: A001 - the word of the index
    out.say(f"license: {plain(license)}; format: {plain(version.format or 'not known')}")
    if found.license is not None and version.license is not None and found.license != version.license:
        out.warn(f"the source states the license {plain(found.license)}, the index {plain(version.license)}")


def _scan_directory(source: Path, layout: RepositoryLayout, version: Version) -> _AddedFiles:
    """Scan the directory `source` of a new version. Raises UsageError, BundleError."""
    from reconciler.content.bundle import collision_notes
    from reconciler.content.scan import scan
    from reconciler.loop.entrance import listing_findings

    listing = scan(source, include_hidden=False, patterns=version.patterns, boundary=layout.source_root)
    if not listing.files:
        raise UsageError(f"no files in {str(source)!r}")
    notes = [*collision_notes(listing.collisions), *_left_out(listing.hidden, listing.excluded)]
    return _AddedFiles(len(listing.files), listing.size, notes, listing_findings(listing, version))


def _left_out(hidden: Sequence[str], excluded: Sequence[str]) -> list[str]:
    notes = []
    if hidden:
        left = count(len(hidden), "hidden entry", "hidden entries")
        notes.append(f"{left} skipped; `hidden: include` in the index includes them")
    if excluded:
        notes.append(f"{count(len(excluded), 'entry', 'entries')} left out by patterns of the index")
    return notes


def _check_car(source: Path, version: Version) -> _AddedFiles:
    """Verify every byte of the CAR `source` of a new version. Raises UsageError, BundleError."""
    from reconciler.content.car_bundle import identify_new_car
    from reconciler.loop.entrance import dag_findings

    if source.suffix != ".car":
        raise UsageError(
            f"{str(source)!r} is neither a directory nor a CAR file",
            hint="give the directory that contains it; the name of a CAR ends with .car",
        )
    with (
        out.progress() as progress,
        closing(identify_new_car(source, version.inputs.release, progress)) as car,
    ):
        findings = dag_findings(car, version)
    identity = car.identity
    notes = [f"its CID is {identity.root}, every block verified", *car.notes]
    return _AddedFiles(len(identity.files), identity.size, notes, findings)


def _print_findings(ref: str, findings: Sequence[Finding]) -> None:
    """Print on stderr what a run will refuse or warn about."""
    from reconciler.render.findings import warning_lines

    for line in warning_lines((ref, found) for found in findings):
        out.warn(line)
    if any(found.refuses for found in findings):
        out.say(f"note: a run does not publish {ref} from these files; `reconcile lint {ref}` lists all")


def _relative_path(layout: RepositoryLayout, path: str) -> str:
    """Return `path` as the index writes it: relative to the source root, with slashes. Raises UsageError."""
    root = layout.source_root.resolve()
    for candidate in (layout.source_root / path, Path(path)):
        if candidate.exists() and candidate.resolve().is_relative_to(root):
            return candidate.resolve().relative_to(root).as_posix()
    if Path(path).exists():
        raise UsageError(
            f"{path!r} is outside {str(layout.source_root)!r}",
            hint="move it there, or set the directory that paths in the index are relative to: --source-root",
        )
    from reconciler.index.version_source import is_repository

    hint = f"for the repository on the Hugging Face Hub, write hf:{path}" if is_repository(path) else None
    raise UsageError(f"no such directory or CAR file: {path!r}", hint=hint)
