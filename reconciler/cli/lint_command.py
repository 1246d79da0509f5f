"""The command lint: what a release of these files would be refused or warned for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.options import Directory, Hidden, IndexFile, Json, SourceRoot, TargetsFile
from reconciler.errors import ExitCode
from reconciler.index.locations import find_layout
from reconciler.render import documents
from reconciler.render.words import plain

lint_command = typer.Typer()


@lint_command.command()
def lint(
    what: Annotated[
        str, typer.Argument(metavar="DIR|REF", help="Directory or file, or a version of the index.")
    ],
    hidden: Hidden = False,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
    targets: TargetsFile = None,
    source_root: SourceRoot = None,
) -> int:
    """Report what should not enter a release: pointers, missing shards, credentials, unusable weights.

    Only names and headers are read. A version is judged by its entry in the index, a directory by itself.
    Exits with 4 when a release of the files would be refused, with 0 when there are only warnings.
    """
    from reconciler.loop.lint import lint_path, lint_reference
    from reconciler.render.findings import finding_lines, findings_summary

    path = Path(what)
    if path.exists():
        linted = lint_path(path, hidden=hidden)
    else:
        layout = find_layout(directory, index, targets, source_root)
        with out.progress() as progress:
            linted = lint_reference(layout, what, os.environ, progress)
    if as_json:
        out.result_json(documents.lint_document(linted))
    else:
        for line in finding_lines(linted.findings):
            out.result(line)
        out.result(findings_summary(linted.findings, linted.name))
        for note in linted.notes:
            out.say(f"note: {plain(note)}")
    return ExitCode.REFUSED if linted.refused else ExitCode.OK
