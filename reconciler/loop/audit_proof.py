"""Proofs that a log has the release of a version, and their verification without the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.errors import DataError, ReconcilerError, UsageError, Where
from reconciler.index.load import load_index
from reconciler.index.locations import RepositoryLayout, find_layout
from reconciler.index.log_settings import read_audit_settings
from reconciler.index.resolve import parse_ref, resolve
from reconciler.index.targets_file import read_targets
from reconciler.index.user_config import config_file, load_config
from reconciler.loop.audit_log import RepositoryLog, log_keys
from reconciler.trust.checkpoint import (
    MAX_PROOF,
    Checkpoint,
    LogKeys,
    LogProof,
    parse_checkpoint,
    parse_proof,
    verify_proof,
)
from reconciler.trust.leaves import LogLeaf, parse_leaf
from reconciler.trust.log import prove_entry


def prove_release(log: RepositoryLog, layout: RepositoryLayout, ref: str) -> tuple[LogLeaf, LogProof]:
    """Return the release of the version that `ref` names, or of that with its CID, and its proof.

    Raises UsageError for a version that has no number in the log yet, and what resolving raises.
    """
    name = ref
    if ref not in log.covered():  # else a version that may have left the index
        found = resolve(load_index(layout.index_file), parse_ref(ref))
        name = found.version.ref if found.version is not None else str(found.cid)
    for number, leaf in enumerate(log.leaves):
        if leaf.number == 1 and name in (leaf.ref, leaf.cid) and log.checkpoint is not None:
            return leaf, prove_entry(number, log.checkpoint, leaf.entry(), log.read)
    raise UsageError(
        f"no checkpoint covers {name}",
        hint="`reconcile audit checkpoint` numbers leaves that were merged; `reconcile audit` lists them",
    )


def verify_proof_file(
    file: Path, directory: Path | None, environ: Mapping[str, str]
) -> tuple[LogLeaf, LogProof, Checkpoint]:
    """Verify the proof in `file`; return its leaf and the checkpoint that has it.

    The keys are those of the repository around `directory` and of the user's configuration. Raises UsageError
    when they have none for this log, DataError for a malformed or wrong proof, and TrustError for a
    checkpoint that is not signed by them.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_PROOF + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot be read: {reason}", where=Where(str(file))) from None
    try:
        proof = parse_proof(data)
        origin = parse_checkpoint(proof.checkpoint, "the checkpoint of the proof").origin
        leaf = parse_leaf(proof.extra, "the entry of the proof")
        keys = known_keys(origin, directory, environ)
        return leaf, proof, verify_proof(proof, proof.extra, keys)
    except ReconcilerError as error:
        error.where = error.where or Where(str(file))
        raise


def known_keys(origin: str, directory: Path | None, environ: Mapping[str, str]) -> LogKeys:
    """Return the keys of the log `origin`, from the repository or the user's configuration.

    Raises UsageError when neither has them.
    """
    for keys in _all_keys(directory, environ):
        if keys.origin == origin:
            return keys
    raise UsageError(
        f"no key of the log {origin!r} is known",
        hint="add the key that its owner published to `logs` in your configuration (docs/audit-log.md)",
    )


def _all_keys(directory: Path | None, environ: Mapping[str, str]) -> Iterator[LogKeys]:
    with suppress(UsageError, DataError):
        layout = find_layout(directory)
        settings = read_audit_settings(read_targets(layout.targets_file)[1], str(layout.targets_file))
        yield log_keys(settings.log, str(layout.targets_file))
    path = config_file(environ)
    for each in load_config(path).logs:
        yield log_keys(each.settings, str(path))
