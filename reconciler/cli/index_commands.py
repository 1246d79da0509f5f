"""Commands about the index and its history: add, init, check, log. They contact no target."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.options import Directory, IndexFile, Json, NewDirectory, SourceRoot, TargetsFile
from reconciler.errors import ExitCode, SafetyError, UsageError
from reconciler.index.locations import INDEX, find_layout
from reconciler.render import documents
from reconciler.render.words import count, plain, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.content.lint.finding import Finding
    from reconciler.index.history import LoggedRelease
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.model import Version

index_commands = typer.Typer()


@index_commands.command()
def add(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model in the index, or a new one.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="New SemVer version, such as 1.2.0.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Directory or CAR file of the version.")],
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
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Add a version to the index and change no other line. The next run resolves its CID.

    The files are those of a directory, or of a CAR file, which is verified first.
    """
    from reconciler.index.edits import add_version, write_edit
    from reconciler.index.load import load_index, parse_index
    from reconciler.index.versions import plain_version

    layout = find_layout(directory, index, source_root=source_root)
    load_index(layout.index_file)
    version = plain_version(version)
    created_at = created_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    relative = _relative_path(layout, path)
    source = layout.source_root / relative
    text = layout.index_file.read_bytes().decode("utf-8")
    edited = add_version(
        text,
        model,
        version,
        path=relative,
        created_at=created_at,
        format=format,
        license=license,
        name=str(layout.index_file),
    )
    added = parse_index(edited, layout.index_file).models[model].versions[version]
    found = _check_car(source, added) if source.is_file() else _scan_directory(source, layout, added)
    write_edit(layout.index_file, text, edited)
    if as_json:
        out.result_json(
            documents.added_document(
                model,
                version,
                path=relative,
                created_at=created_at,
                index=layout.index_file,
                findings=found.findings,
            )
        )
        return ExitCode.OK
    out.result(f"added {model}@{version} to {layout.index_file}")
    out.say(f"{count(found.files, 'file')}, {size(found.size)}, in {relative}")
    for note in found.notes:
        out.say(f"note: {note}")
    _print_findings(added.ref, found.findings)
    out.say("next: `reconcile --dry-run` shows what a run would do")
    return ExitCode.OK


@dataclass(frozen=True, slots=True)
class _AddedFiles:
    """The files of a new version: how many, their bytes, notes for the user, and what a run will say."""

    files: int
    size: int
    notes: list[str]
    findings: Sequence[Finding]


def _scan_directory(source: Path, layout: RepositoryLayout, version: Version) -> _AddedFiles:
    """Scan the directory `source` of a new version. Raises UsageError, BundleError."""
    from reconciler.content.bundle import collision_notes
    from reconciler.content.scan import scan
    from reconciler.loop.entrance import listing_findings

    listing = scan(source, include_hidden=False, patterns=version.patterns, boundary=layout.source_root)
    if not listing.files:
        raise UsageError(f"no files in {str(source)!r}")
    notes = list(collision_notes(listing.collisions))
    if listing.hidden:
        left = count(len(listing.hidden), "hidden entry", "hidden entries")
        notes.append(f"{left} skipped; `hidden: include` in the index includes them")
    if listing.excluded:
        notes.append(f"{count(len(listing.excluded), 'entry', 'entries')} left out by patterns of the index")
    return _AddedFiles(len(listing.files), listing.size, notes, listing_findings(listing, version))


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
    raise UsageError(f"no such directory or CAR file: {path!r}")


# -- init ----------------------------------------------------------------------------------------------------

INDEX_TEXT = """\
# The versions of the models that must exist. People write this file; the reconciler only adds `cid` lines.
schema: 1
id: {id}                # marks what belongs to this index on every target; never change it
defaults: {{targets: [store]}}
models: {{}}
"""

TARGETS_TEXT = """\
# The targets that the index names. Addresses belong only here; secrets belong in environment variables, whose
# names belong here.
targets:
  store: {kind: store, path: .reconcile/store}
  # node: {kind: kubo, api: "http://127.0.0.1:5001", token_env: KUBO_RPC_TOKEN}
"""


@index_commands.command()
def init(
    index_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="Id of the index, which marks its content on every target (default: the directory's name).",
        ),
    ] = None,
    as_json: Json = False,
    directory: NewDirectory = None,
) -> int:
    """Create releases/index.yaml and releases/targets.yaml with explanatory comments.

    Existing files are never overwritten.
    """
    root = directory or Path()
    if not root.is_dir():
        raise UsageError(f"not a directory: {str(root)!r}")
    name = index_id or re.sub(r"[^a-z0-9._-]+", "-", root.resolve().name.lower()).strip("-._") or "models"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise UsageError(
            f"{name!r} is not a valid index id",
            hint="use up to 64 lower-case letters, digits, '.', '_' and '-'",
        )
    made: list[Path] = []
    for file, text in (
        (root / INDEX, INDEX_TEXT.format(id=name)),
        (root / INDEX.with_name("targets.yaml"), TARGETS_TEXT),
    ):
        if file.exists():
            out.say(f"{file} already exists; left unchanged")
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        made.append(file)
    if (root / INDEX) not in made:
        raise UsageError(f"{root / INDEX} already exists", hint="`reconcile add` adds versions to it")
    if as_json:
        out.result_json(documents.init_document(name, made))
        return ExitCode.OK
    for file in made:
        out.result(f"created {file}")
    out.say("next: `reconcile add MODEL VERSION PATH`, then `reconcile --dry-run`")
    return ExitCode.OK


# -- history -------------------------------------------------------------------------------------------------


@index_commands.command()
def check(
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="REF",
            help="Git commit to compare with (default: the whole history of HEAD).",
        ),
    ] = None,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
) -> int:
    """Check the index, the targets file and the records, offline and without the weights.

    Exits with 4 when a released CID was changed or a protected version was removed, compared with --base or
    with the whole history of HEAD. Intended for every pull request.
    """
    from reconciler.index.history import check_frozen
    from reconciler.index.load import load_index
    from reconciler.index.record_check import check_records
    from reconciler.index.sources_file import check_sources, load_sources
    from reconciler.index.targets_file import load_targets
    from reconciler.loop.select import select

    layout = find_layout(directory, index, targets)
    loaded = load_index(layout.index_file)
    select(loaded, load_targets(layout.targets_file))
    check_sources(loaded, load_sources(layout.sources_file))
    recorded = len(check_records(loaded, with_contents=True))
    frozen = check_frozen(loaded, base=base)
    if frozen.violations:
        raise SafetyError(
            "\n".join(f"{violation.where}: {violation.message}" for violation in frozen.violations),
            hint=frozen.violations[0].hint,
        )
    versions = list(loaded.versions())
    resolved = sum(version.cid is not None for version in versions)
    if as_json:
        out.result_json(
            documents.check_document(frozen, versions=len(versions), resolved=resolved, recorded=recorded)
        )
        return ExitCode.OK
    out.result(f"ok: {count(len(versions), 'version')}, {resolved:,} with a CID, {recorded:,} with a record")
    out.say(f"compared with {frozen.checked}")
    return ExitCode.OK


@index_commands.command()
def log(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model that is in the index or was in it earlier.")
    ],
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
) -> int:
    """Show who released which version of a model and when, newest first, from the index's git history."""
    from reconciler.index.history import release_log
    from reconciler.index.load import load_index
    from reconciler.loop.select import suggestion

    layout = find_layout(directory, index)
    releases = release_log(layout.index_file, model)
    if not releases:
        loaded = load_index(layout.index_file)
        if model not in loaded.models:
            raise UsageError(f"unknown model {model!r}", hint=suggestion(model, loaded.models))
    if as_json:
        out.result_json(documents.log_document(model, releases))
    else:
        _print_log(model, releases)
    return ExitCode.OK


def _print_log(model: str, releases: Sequence[LoggedRelease]) -> None:
    for release in releases:
        named = f"(#{release.proposal})"  # the subject of a squashed merge already contains it
        by = f" {named}" if release.proposal and named not in release.subject else ""
        who = f"{release.author}: {release.subject}{by}"
        out.result(plain(f"{release.version:<12} {release.when}  {release.commit[:12]}  {who}"))
        out.result(f"             {release.cid}")
    if not releases:
        out.say(f"{model} has no release in the history of HEAD yet")
