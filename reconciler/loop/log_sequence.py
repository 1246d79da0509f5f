"""The next checkpoint of an audit log: leaves that were merged get their numbers, and the log is signed.

The order of the entries is the order in which the main line of HEAD merged the files of the leaves, so that
every clone computes the same log, and no proposal can sign another one: whatever is signed stays a beginning
of everything that is signed later. Only leaves that are committed are numbered. Where no git is, all count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from reconciler.errors import PeerError, Reason, TrustError, UserError, Where
from reconciler.index.log_settings import LogSettings
from reconciler.loop.audit_log import RepositoryLog
from reconciler.loop.log_leaves import write_log_files
from reconciler.net.auth import from_env
from reconciler.trust.checkpoint import Checkpoint, checkpoint_text, parse_checkpoint
from reconciler.trust.leaves import LogLeaf, replay
from reconciler.trust.log import CHECKPOINT, check_chains, extension
from reconciler.trust.merkle import consistency_proof
from reconciler.trust.note import (
    NoteSignature,
    NoteSigner,
    SignedNote,
    parse_note_key,
    parse_note_signer,
    signers_among,
    with_signatures,
)
from reconciler.trust.tiles import TileHashes, log_files
from reconciler.trust.witness import Prove, Witness

POLICY = "policy"  #: the keys of the log and its witnesses, for other programs (C2SP tlog-policy)


@dataclass(frozen=True, slots=True)
class NextCheckpoint:
    """A checkpoint, and the files of the log to write with it, by path; none when it is there already.

    `added` are the leaves that got their number; `notes` are for people.
    """

    checkpoint: Checkpoint
    files: Mapping[str, bytes]
    added: tuple[LogLeaf, ...] = ()
    notes: tuple[str, ...] = ()


def open_signer(settings: LogSettings, environ: Mapping[str, str], where: str) -> NoteSigner:
    """Return the private key of the log from the environment.

    Raises UsageError when it is missing, malformed, or not the one of the verifier key.
    """
    if not settings.key_env:
        raise UserError(
            "`log:` names no variable with the private key",
            hint="set key_env to its name, where checkpoints are signed",
            where=Where(where),
        )
    signer = parse_note_signer(
        from_env(settings.key_env, environ), f"the environment variable {settings.key_env!r}"
    )
    if signer.key != parse_note_key(settings.key):
        raise UserError(
            f"{settings.key_env} has the private key of {signer.key}, which is not the key of the log",
            hint="a log has one key: use its private key",
            where=Where(where),
        )
    return signer


def next_checkpoint(
    log: RepositoryLog, settings: LogSettings, environ: Mapping[str, str], where: str
) -> NextCheckpoint | None:
    """Number the pending leaves, sign the log and have it cosigned; None for a log without leaves.

    Asks no witness when the present checkpoint has everything and enough cosignatures. Raises UserError when
    the order of the leaves or the key is unknown, PeerError when too few witnesses cosigned, and TrustError
    when one of them has seen another history, or a leaf contradicts the log or the index.
    """
    pending = log.pending if log.committed.exists else log.new
    if log.checkpoint is None and not pending:
        return None
    if pending and log.committed.exists and log.committed.added is None:
        raise UserError(
            "this clone is shallow, so the order in which leaves were merged is unknown",
            hint="fetch the whole history (actions/checkout: fetch-depth: 0)",
        )
    _check_pending(log, pending)
    longer, files = extension(log.recomputed, pending)
    checkpoint = log.checkpoint
    if checkpoint is None or pending:
        signer = open_signer(settings, environ, where)
        root = (longer.roots or {})[longer.size]
        text = checkpoint_text(signer.key.name, longer.size, root)
        checkpoint = parse_checkpoint(SignedNote(text, (signer.sign(text),)).encode())
    read = partial(_read_over, files, log)
    old = log.checkpoint.size if log.checkpoint is not None and pending else 0
    checkpoint, notes = _cosigned(checkpoint, old, settings, log, lambda a, b: _prove(read, a, b))
    files |= {POLICY: policy_text(settings).encode(), CHECKPOINT: checkpoint.note.encode()}
    if not pending:
        files = {path: data for path, data in files.items() if path in (POLICY, CHECKPOINT)}
    changed = {path: data for path, data in files.items() if log.read(path) != data}
    return NextCheckpoint(checkpoint, changed, tuple(pending), (*log.notes, *notes))


def _check_pending(log: RepositoryLog, pending: Sequence[LogLeaf]) -> None:
    """Raise TrustError for leaves that do not continue the log, or whose versions the index does not have."""
    chains = check_chains([*log.leaves, *pending])
    for leaf in pending:
        if leaf.ref not in log.known and not replay(chains[leaf.ref]).removed:
            raise TrustError(
                f"{leaf.path} says {leaf.event.value} of {leaf.ref}, which is not in the index",
                hint="run `reconcile`, which logs the removal, or delete a leaf that should not be there",
            )


def _read_over(files: Mapping[str, bytes], log: RepositoryLog, path: str) -> bytes | None:
    return files[path] if path in files else log.read(path)


def _prove(read: partial[bytes | None], old: int, new: int) -> Sequence[bytes]:
    return consistency_proof(old, new, TileHashes(new, read))


def _cosigned(
    checkpoint: Checkpoint, old: int, settings: LogSettings, log: RepositoryLog, prove: Prove
) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return `checkpoint` with the cosignatures that are needed, and why others are missing."""
    present = signers_among(checkpoint.note, log.keys.witnesses)
    if len(present) >= log.keys.quorum:
        return checkpoint, ()
    found: list[NoteSignature] = []
    reasons: list[Reason] = []
    for key, spec in zip(log.keys.witnesses, settings.witnesses, strict=True):
        if key in present:
            continue
        with closing(Witness(key, spec.url)) as witness:
            answer = witness.cosign(checkpoint, old, prove)
        if isinstance(answer, Reason):
            reasons.append(answer)
        else:
            found.append(answer)
    if len(present) + len(found) < log.keys.quorum:
        texts = "; ".join(reason.text for reason in reasons)
        raise PeerError(
            f"{len(present) + len(found)} of {len(log.keys.witnesses)} witnesses cosigned the checkpoint, "
            f"and {log.keys.quorum} must: {texts}",
            hint=next((reason.hint for reason in reasons if reason.hint), None)
            or "nothing was written; run again when they can be reached",
        )
    return replace(checkpoint, note=with_signatures(checkpoint.note, found)), tuple(
        f"not cosigned: {reason.text}" for reason in reasons
    )


def write_checkpoint(directory: Path, made: NextCheckpoint) -> None:
    """Write the files of a checkpoint to the log in `directory`, itself last, and remove what it replaces.

    Partial tiles are removed once the full one is there. Raises InvalidIndexError and OSError.
    """
    write_log_files(directory, made.files)
    full = [path for path in log_files(made.checkpoint.size) if ".p/" not in path]
    for path in full if made.files else ():
        partial_tiles = directory / f"{path}.p"
        if partial_tiles.is_dir() and not partial_tiles.is_symlink():
            for file in partial_tiles.iterdir():
                file.unlink()
            with suppress(OSError):
                partial_tiles.rmdir()


def policy_text(settings: LogSettings) -> str:
    """Return whose signatures a checkpoint needs, as a C2SP tlog-policy."""
    lines = [f"log {settings.key}"]
    names = [f"w{number}" for number, _ in enumerate(settings.witnesses, start=1)]
    lines += [
        f"witness {name} {each.key} {each.url}" for name, each in zip(names, settings.witnesses, strict=True)
    ]
    if settings.quorum:
        lines += [f"group witnesses {settings.quorum} {' '.join(names)}", "quorum witnesses"]
    else:
        lines.append("quorum none")
    return "\n".join(lines) + "\n"
