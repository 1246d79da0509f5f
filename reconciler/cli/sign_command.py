"""The command sign: signatures of released versions, written beside the index."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.interrupts import loaded_workspace
from reconciler.cli.options import Directory, IndexFile, Json
from reconciler.errors import ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.render.words import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.index.model import Version
    from reconciler.loop.sign import SignedRelease
    from reconciler.loop.workspace import Workspace

sign_command = typer.Typer()


@sign_command.command()
def sign(
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="REF...", help="Versions to sign (default: every version with a CID)."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Private key: a PEM file, env:NAME, hsm:, awskms:, gcpkms:, azurekms:, or keyless "
            "(default: RECONCILE_SIGNING_KEY, else the identity of a job in GitHub Actions).",
        ),
    ] = None,
    as_json: Json = False,
    directory: Directory = None,
    index: IndexFile = None,
) -> int:
    """Sign released versions: who released which bytes.

    Writes signatures beside the index, for consumers with a trust rule and for tools that verify OpenSSF
    Model Signing. No weights are read, and the release itself does not change. A version that the key has
    signed already is left as it is.
    """
    from reconciler.loop.settings import Scope
    from reconciler.loop.sign import sign_versions
    from reconciler.trust.signing import open_signer

    layout = find_layout(directory, index)
    layout.make_state()
    with out.progress() as progress, loaded_workspace(Scope(layout), os.environ, progress) as workspace:
        versions = _versions(workspace, refs or ())
        signer = open_signer(key, os.environ)
        signed = list(sign_versions(workspace, versions, signer, os.environ))
    if as_json:
        from reconciler.render.signatures import signed_document

        out.result_json(signed_document(signed))
    else:
        for each in signed:
            _print_signed(each)
    return ExitCode.OK


def _versions(workspace: Workspace, refs: Sequence[str]) -> list[Version]:
    """Return the versions that `refs` name, each once; without any, all that have a CID."""
    from reconciler.index.resolve import parse_ref, resolve

    if not refs:
        found = [each for each in workspace.index.versions() if each.cid is not None and not each.retired]
        if not found:
            raise UsageError("no version has a CID yet, so there is nothing to sign", hint="run reconcile")
        return found
    named: dict[str, Version] = {}
    for ref in refs:
        version = resolve(workspace.index, parse_ref(ref)).version
        if version is None:
            raise UsageError(
                f"{ref!r} is not the CID of a version of the index", hint="sign a version, by its name"
            )
        named[version.ref] = version
    return list(named.values())


def _print_signed(signed: SignedRelease) -> None:
    ref = f"{signed.version.ref} {signed.release.cid}"
    if not signed.files:
        out.result(f"unchanged: {ref}, signed by {plain(signed.signer)} before")
        return
    out.result(f"signed: {ref} by {plain(signed.signer)}")
    for path in signed.files:
        out.say(f"  {path}")
    if signed.uncovered:
        names = ", ".join(plain(name) for name in signed.uncovered[:5])
        out.warn(
            f"{signed.version.ref}: tools for Model Signing ignore {names}; the release signature covers it"
        )
