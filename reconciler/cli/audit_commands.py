"""`reconcile audit`: recompute the audit log, prove and verify its entries, and sign its checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import output as out
from reconciler.cli.options import Directory, Json, Propose
from reconciler.errors import ExitCode, UsageError
from reconciler.index.locations import find_layout
from reconciler.loop.settings import ProposeMode
from reconciler.render.words import count, plain

if TYPE_CHECKING:
    from reconciler.content.cid import Cid
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.log_settings import AuditSettings
    from reconciler.loop.audit_log import RepositoryLog

audit_commands = typer.Typer()


@audit_commands.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    chain: Annotated[
        bool,
        typer.Option("--chain", help="Also check every anchor, from the block on the chain to the log."),
    ] = False,
    as_json: Json = False,
    directory: Directory = None,
) -> int:
    """Recompute the audit log, and compare it with its git history and the index.

    Reads every entry, every tile and every checkpoint that was ever committed, and verifies the signatures.
    Exits with 1 when a file is missing or damaged, and with 4 when the history was truncated or rewritten.
    """
    if context.invoked_subcommand is not None:
        name = context.invoked_subcommand
        if as_json or chain:
            option = "--json" if as_json else "--chain"
            raise UsageError(
                f"{option} must follow the command {name!r}", hint=f"see `reconcile audit {name} --help`"
            )
        context.obj = directory
        return ExitCode.OK
    from reconciler.render.audit import audit_document, audit_text

    layout = find_layout(directory)
    settings = _settings(layout)
    log = _read_log(layout, settings)
    anchors = None
    if chain:
        from reconciler.loop.anchoring import check_log_anchors
        from reconciler.loop.log_leaves import log_directory

        anchors = check_log_anchors(log, log_directory(layout.index_file), settings.anchor, os.environ)
    if as_json:
        out.result_json(audit_document(log, anchors))
    else:
        out.result(audit_text(log, anchors))
    return ExitCode.OK


@audit_commands.command()
def prove(
    ref: Annotated[str, typer.Argument(metavar="REF", help="Version whose release to prove, or its CID.")],
    as_json: Json = False,
    directory: Directory = None,
) -> int:
    """Print the proof that the log has the release of a version: a file for `audit verify`.

    It has the entry, its path to the root, and the signed checkpoint (C2SP tlog-proof).
    """
    from reconciler.loop.audit_proof import prove_release
    from reconciler.render.audit import proof_document

    layout = find_layout(directory)
    log = _read_log(layout, _settings(layout))
    leaf, proof = prove_release(log, layout, ref)
    text = proof.encode().decode()
    if as_json:
        assert log.checkpoint is not None  # noqa: S101 - it is in the proof
        out.result_json(proof_document(leaf, proof.index, log.checkpoint, text))
    else:
        out.result(text)
    return ExitCode.OK


@audit_commands.command()
def verify(
    what: Annotated[
        str,
        typer.Argument(metavar="FILE|CID", help="Proof that `audit prove` printed, or CID of an artifact."),
    ],
    as_json: Json = False,
    directory: Directory = None,
) -> int:
    """Verify a proof without the log and the network, or the anchor of an artifact.

    FILE: the key of the log is that in targets.yaml, or one of `logs` in the user's configuration. CID: the
    anchor that `put --anchor` made is checked on the chain that `anchor:` in targets.yaml names; without its
    record it is found by the CID alone.
    """
    from reconciler.index.resolve import parse_ref
    from reconciler.loop.audit_proof import verify_proof_file
    from reconciler.render.audit import proof_document

    if not Path(what).exists() and (cid := parse_ref(what).cid) is not None:
        return _verify_artifact(cid, directory, as_json=as_json)
    leaf, proof, checkpoint = verify_proof_file(Path(what), directory, os.environ)
    if as_json:
        out.result_json(proof_document(leaf, proof.index, checkpoint, None))
    else:
        out.result(f"ok: {plain(leaf.ref)} {leaf.cid}")
        out.say(f"entry {proof.index:,} of {plain(checkpoint.origin)}, {checkpoint}")
    return ExitCode.OK


@audit_commands.command()
def checkpoint(
    propose: Propose = ProposeMode.WRITE,
    as_json: Json = False,
    directory: Directory = None,
) -> int:
    """Number the leaves that were merged, sign the log, have it cosigned, and anchor it.

    Run it on the newest commit of the protected branch. The private key is read from the variable that
    `log:` in targets.yaml names. Witnesses are asked where `log:` lists some, and one transaction is sent
    where `anchor:` names a chain. What is done already is not done again.
    """
    from reconciler.cli.proposals import pull_requests
    from reconciler.index.proposal_form import read_proposal_form
    from reconciler.index.targets_file import read_targets
    from reconciler.loop.log_proposal import propose_checkpoint
    from reconciler.loop.log_sequence import next_checkpoint
    from reconciler.loop.workspace import run_lock
    from reconciler.render.audit import checkpoint_document

    layout = find_layout(directory)
    data = read_targets(layout.targets_file)[1]
    settings = _settings(layout)
    layout.make_state()
    with run_lock(layout.state, "reconcile audit checkpoint"):
        log = _read_log(layout, settings, cosigned=False)
        assert settings.log is not None  # noqa: S101 - there is a log
        made = next_checkpoint(log, settings.log, os.environ, str(layout.targets_file))
        where = "the log has no leaf yet"
        if made is not None and settings.anchor is not None:
            from reconciler.loop.anchoring import with_anchor
            from reconciler.loop.log_leaves import log_directory

            made = with_anchor(made, log_directory(layout.index_file), settings.anchor, os.environ)
        if made is not None:
            form = read_proposal_form(data, str(layout.targets_file), os.environ)
            requests = pull_requests(propose, os.environ)
            where, _ = propose_checkpoint(layout, made, propose, requests, form)
    if as_json:
        out.result_json(checkpoint_document(made, where))
        return ExitCode.OK
    if made is not None:
        for note in made.notes:
            out.say(f"note: {plain(note)}")
        added = count(len(made.added), "leaf", "leaves")
        out.result(f"{plain(made.checkpoint.origin)}: {made.checkpoint}; {added} added")
    out.say(plain(where))
    return ExitCode.OK


@audit_commands.command()
def key(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name of the log, such as example.org/models; it never changes."),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to create for the private key.")],
) -> int:
    """Make the key of a new log: write the private one to FILE, and print the one that verifies.

    The printed key belongs into targets.yaml (`log: {key: …}`) and into the hands of readers.
    """
    from reconciler.fs import create_private_file
    from reconciler.trust.note import new_note_key

    secret, public = new_note_key(name)
    try:
        create_private_file(file, f"{secret.reveal()}\n".encode())
    except FileExistsError:
        raise UsageError(
            f"{str(file)!r} exists already", hint="a log keeps its key: name a new file"
        ) from None
    out.say(f"private key written to {file}; set the variable that `key_env` names to its content")
    out.result(str(public))
    return ExitCode.OK


def _verify_artifact(cid: Cid, directory: Path | None, *, as_json: bool) -> int:
    from reconciler.loop.anchoring import check_artifact
    from reconciler.loop.log_leaves import log_directory
    from reconciler.render.audit import anchor_text, artifact_document

    layout = find_layout(directory)
    found = check_artifact(cid, log_directory(layout.index_file), _settings(layout).anchor, os.environ)
    if as_json:
        out.result_json(artifact_document(found))
    else:
        out.result(f"ok: {anchor_text(found)}")
    return ExitCode.OK


def _settings(layout: RepositoryLayout) -> AuditSettings:
    from reconciler.index.log_settings import read_audit_settings
    from reconciler.index.targets_file import read_targets

    return read_audit_settings(read_targets(layout.targets_file)[1], str(layout.targets_file))


def _read_log(layout: RepositoryLayout, settings: AuditSettings, *, cosigned: bool = True) -> RepositoryLog:
    from reconciler.index.load import load_index
    from reconciler.loop.audit_log import read_repository_log

    index = load_index(layout.index_file)
    return read_repository_log(index, settings.log, str(layout.targets_file), cosigned=cosigned)
