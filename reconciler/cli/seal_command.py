"""`reconcile seal`: the key of a sealed model, made and wrapped for its recipients."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.options import Directory, IndexFile, Json
from reconciler.errors import ExitCode
from reconciler.index.locations import find_layout
from reconciler.render import documents
from reconciler.render.words import count

seal_command = typer.Typer()


@seal_command.command()
def seal(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model of the index that has `seal`.")],
    new_key: Annotated[
        bool,
        typer.Option("--new-key", help="Make another key, which versions without a CID use from then on."),
    ] = False,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
) -> int:
    """Make the key of a sealed model, or wrap it again after a change of its recipients.

    The key is written to releases/sealed/MODEL, encrypted for the recipients in the index. Nothing is
    uploaded, and no published file changes. To wrap a key again, the private key of one of its recipients is
    read from the variable that `key_env` in the index names.
    """
    from reconciler.loop.wrap_keys import wrap_keys

    done = wrap_keys(find_layout(directory, index), model, os.environ, another=new_key)
    if as_json:
        out.result_json(documents.seal_document(done.current, done.made, done.rewrapped))
        return ExitCode.OK
    recipients = count(len(done.current.recipients), "recipient")
    for each in done.made:
        out.result(f"{each.name} made for {recipients}: {each.file}")
    for each in done.rewrapped:
        out.result(f"{each.name} wrapped again for {recipients}: {each.file}")
    if not done.made and not done.rewrapped:
        out.result(f"{done.current.name} is wrapped for {recipients}: {done.current.file}")
    return ExitCode.OK
