"""Commands about the index and its history: init, check, log. They contact no target."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.options import Directory, IndexFile, Json, NewDirectory, TargetsFile
from reconciler.errors import ExitCode, SafetyError, UsageError
from reconciler.index.locations import INDEX, find_layout
from reconciler.render import documents
from reconciler.render.words import count, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.index.history import LoggedRelease

index_commands = typer.Typer()


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
