"""The audit log as text and as JSON: audits, checkpoints, proofs and anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.render.words import count, plain
from reconciler.trust.note import encode_hash

if TYPE_CHECKING:
    from reconciler.loop.audit_log import RepositoryLog
    from reconciler.loop.log_sequence import NextCheckpoint
    from reconciler.trust.anchor import AnchoredAt
    from reconciler.trust.checkpoint import Checkpoint
    from reconciler.trust.leaves import LogLeaf

SCHEMA = 1


def audit_document(log: RepositoryLog, anchors: Sequence[AnchoredAt] | None = None) -> dict[str, Any]:
    """Return the document of an audit (schemas/audit.schema.json); `anchors` are None when not checked."""
    checkpoint = log.checkpoint
    return {
        "schema": SCHEMA,
        "kind": "audit",
        "origin": log.keys.origin,
        "size": log.recomputed.size,
        "root": None if checkpoint is None else encode_hash(checkpoint.root),
        "checkpoints": len(log.committed.checkpoints),
        "pending": [_event(leaf) for leaf in log.pending],
        "new": [_event(leaf) for leaf in log.new],
        "missing": list(log.missing),
        "anchors": None if anchors is None else [_anchor(each) for each in anchors],
        "notes": list(log.notes),
    }


def _event(leaf: LogLeaf) -> dict[str, Any]:
    return {"model": leaf.model, "version": leaf.version, "event": leaf.event.value, "cid": leaf.cid}


def _anchor(found: AnchoredAt) -> dict[str, Any]:
    record = found.record
    return {
        "size": record.subject if isinstance(record.subject, int) else None,
        "cid": record.subject if isinstance(record.subject, str) else None,
        "digest": record.digest.hex(),
        "chain": record.chain,
        "transaction": record.transaction,
        "block": record.block,
        "time": f"{found.time:%Y-%m-%dT%H:%M:%SZ}",
        "final": found.final,
    }


def artifact_document(found: AnchoredAt) -> dict[str, Any]:
    """Return the document of an artifact that is anchored (schemas/anchor.schema.json)."""
    return {"schema": SCHEMA, "kind": "anchor", **_anchor(found)}


def anchor_text(found: AnchoredAt) -> str:
    """Render one anchor: what, where, since when."""
    record = found.record
    what = record.subject if isinstance(record.subject, str) else f"checkpoint {record.subject:,}"
    state = {True: "final", False: "not final yet", None: "finality unknown"}[found.final]
    when = f"{found.time:%Y-%m-%d %H:%M:%S} UTC"
    return f"{what} is on the chain {record.chain} since {when}, block {record.block} ({state})"


def audit_text(log: RepositoryLog, anchors: Sequence[AnchoredAt] | None = None) -> str:
    """Render what an audit found: the result in one line, then what is still open."""
    if log.checkpoint is None:
        lines = [f"ok: {plain(log.keys.origin)} has no checkpoint yet"]
    else:
        lines = [f"ok: {plain(log.keys.origin)}: {log.checkpoint}"]
        compared = count(len(log.committed.checkpoints), "checkpoint")
        lines.append(f"{compared} in the git history, each a beginning of this log")
    if anchors is not None:
        lines += [anchor_text(each) for each in anchors] or ["no anchor is recorded"]
    if log.pending:
        lines.append(f"{count(len(log.pending), 'leaf', 'leaves')} without a number: {_events(log.pending)}")
        lines.append("hint: `reconcile audit checkpoint` numbers and signs them")
    if log.new:
        lines.append(f"{count(len(log.new), 'leaf', 'leaves')} not committed: {_events(log.new)}")
    if log.missing:
        lines.append(f"not logged yet: {plain(', '.join(log.missing[:10]))}")
        lines.append("hint: `reconcile` logs them")
    lines += [f"note: {plain(note)}" for note in log.notes]
    return "\n".join(lines) + "\n"


def _events(leaves: Sequence[LogLeaf]) -> str:
    shown = ", ".join(f"{leaf.event.value} {leaf.ref}" for leaf in leaves[:10])
    return plain(shown + (f" and {len(leaves) - 10:,} more" if len(leaves) > 10 else ""))


def checkpoint_document(made: NextCheckpoint | None, where: str) -> dict[str, Any]:
    """Return the document of a checkpoint that was made or found (schemas/checkpoint.schema.json)."""
    if made is None:
        return {"schema": SCHEMA, "kind": "checkpoint", "checkpoint": None, "where": where}
    return {
        "schema": SCHEMA,
        "kind": "checkpoint",
        "checkpoint": {
            "origin": made.checkpoint.origin,
            "size": made.checkpoint.size,
            "root": encode_hash(made.checkpoint.root),
            "signed_by": [each.name for each in made.checkpoint.note.signatures],
        },
        "added": [_event(leaf) for leaf in made.added],
        "files": sorted(made.files),
        "where": where,
        "notes": list(made.notes),
    }


def proof_document(leaf: LogLeaf, index: int, checkpoint: Checkpoint, proof: str | None) -> dict[str, Any]:
    """Return the document of a proof (schemas/proof.schema.json); `proof` is its file, None once verified."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "proof",
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": encode_hash(checkpoint.root),
        "index": index,
        "leaf": {**_event(leaf), "index": leaf.index, "number": leaf.number, "record": leaf.record or None},
    }
    return document if proof is None else {**document, "proof": proof}
