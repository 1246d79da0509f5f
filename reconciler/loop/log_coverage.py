"""Which checkpoint of the audit log covers a version: for `status`, `doctor` and pull requests.

`read_coverage` looks at the newest checkpoint and its entries; the history is a matter for `reconcile audit`
and for `doctor`, which runs the same checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.errors import DataError, ReconcilerError, TrustError
from reconciler.index.log_settings import AuditSettings
from reconciler.index.model import Index
from reconciler.loop.audit_log import log_keys, read_repository_log
from reconciler.loop.log_leaves import log_directory, log_reader
from reconciler.targets.interface import Diagnosis
from reconciler.trust.checkpoint import parse_checkpoint
from reconciler.trust.leaves import parse_leaf
from reconciler.trust.log import CHECKPOINT, recompute
from reconciler.trust.tiles import MAX_TILE, read_entries


@dataclass(frozen=True, slots=True)
class LogCoverage:
    """The newest checkpoint of a log: its name, its number of entries (0 without one), and the number of the
    release of each `model@version` that it covers. `problem` is why the log cannot be read, "" when it can.
    """

    origin: str
    size: int = 0
    covered: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""


def read_coverage(index: Index, settings: AuditSettings, where: str) -> LogCoverage | None:
    """Return what the newest checkpoint covers; None where no log is kept. Signatures are not verified.

    Raises UsageError for an invalid key in targets.yaml, which errors call `where`.
    """
    if settings.log is None:
        return None
    origin = log_keys(settings.log, where).origin
    try:
        read = log_reader(log_directory(index.file), MAX_TILE)
        data = read(CHECKPOINT)
        if data is None:
            return LogCoverage(origin)
        checkpoint = parse_checkpoint(data)
        log = recompute(list(read_entries(checkpoint.size, read)))
        log.check(checkpoint, "the checkpoint")
        leaves = [parse_leaf(entry, f"entry {number} of the log") for number, entry in enumerate(log.entries)]
    except (DataError, TrustError) as error:
        return LogCoverage(origin, problem=error.message)
    covered = {leaf.ref: number for number, leaf in enumerate(leaves) if leaf.number == 1}
    return LogCoverage(origin, checkpoint.size, covered)


def diagnose_log(index: Index, settings: AuditSettings, where: str) -> Iterator[Diagnosis]:
    """Yield what an audit of the log finds; nothing where no log is kept."""
    if settings.log is None:
        return
    try:
        log = read_repository_log(index, settings.log, where)
    except ReconcilerError as error:
        yield Diagnosis("history", False, error.message, error.hint or "")
        return
    if log.checkpoint is None:
        hint = "`reconcile audit checkpoint` on the protected branch signs the first one"
        yield Diagnosis("checkpoint", None, "there is none yet", hint)
    else:
        signers = ", ".join(dict.fromkeys(each.name for each in log.checkpoint.note.signatures))
        yield Diagnosis("checkpoint", True, f"{log.checkpoint}, signed by {signers}")
    waiting = [*log.pending, *log.new]
    if waiting:
        text = f"{len(waiting)} leaves have no number yet"
        yield Diagnosis("leaves", None, text, "commit them, then `reconcile audit checkpoint` numbers them")
    if log.missing:
        yield Diagnosis("leaves", None, f"not logged yet: {', '.join(log.missing[:10])}", "run `reconcile`")
