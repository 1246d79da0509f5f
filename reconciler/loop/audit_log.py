"""The audit log of a repository: read, recomputed and compared with its git history, and with the index.

The entries decide: tiles, every checkpoint that was ever committed, the files of the leaves and the index
must agree with them. A leaf whose file is committed and that has no number yet is pending; one that is not
committed is new. Neither is an error: the next checkpoint numbers what is merged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.content.git_objects import object_id
from reconciler.errors import DataError, ReconcilerError, TrustError, UsageError, UserError, Where
from reconciler.git.additions import files_added, files_at, read_blobs
from reconciler.git.file_history import FileHistory
from reconciler.git.runner import GitError, GitRunner
from reconciler.index.log_settings import LogSettings
from reconciler.index.model import Index
from reconciler.index.records import record_path, records_directory
from reconciler.loop.log_leaves import log_directory, log_reader, state_of
from reconciler.trust.checkpoint import Checkpoint, LogKeys, parse_checkpoint, verify_checkpoint
from reconciler.trust.leaves import LEAVES, LogLeaf, leaf_file, new_leaves, parse_leaf_file
from reconciler.trust.log import CHECKPOINT, RecomputedLog, check_chains, parse_entries, read_log
from reconciler.trust.note import MAX_NOTE, is_signed_by, parse_note_key
from reconciler.trust.tiles import MAX_TILE, ReadFile

MAX_CHECKPOINTS = 5000  #: contents of the checkpoint in the history that are compared
_HINT = "add `log:` with the key that `reconcile audit key` prints to targets.yaml (docs/audit-log.md)"


@dataclass(frozen=True, slots=True)
class CommittedLog:
    """What git knows about the log: earlier checkpoints, and the files of leaves in HEAD.

    `added` has for each file of HEAD the number of the commit that merged it; None in a shallow clone. Paths
    are relative to the directory of the log, `ids` are the object ids of the files. `exists`: there is a
    repository.
    """

    ids: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, int] | None = field(default_factory=dict)
    checkpoints: tuple[Checkpoint, ...] = ()
    notes: tuple[str, ...] = ()
    exists: bool = False


@dataclass(frozen=True, slots=True)
class RepositoryLog:
    """A log that agrees with itself and with its history.

    `leaves` are its entries; `pending` are committed leaves without a number, in the order in which they get
    one, and `new` those that are not committed. `missing` are versions with events that no leaf has, and
    `known` those that the index has with a CID.
    """

    keys: LogKeys
    read: ReadFile
    checkpoint: Checkpoint | None
    recomputed: RecomputedLog
    leaves: tuple[LogLeaf, ...]
    pending: tuple[LogLeaf, ...]
    new: tuple[LogLeaf, ...]
    missing: tuple[str, ...]
    known: frozenset[str]
    committed: CommittedLog
    notes: tuple[str, ...] = ()

    def covered(self) -> Mapping[str, int]:
        """Return the number of the release of each `model@version` in the log."""
        return {leaf.ref: number for number, leaf in enumerate(self.leaves) if leaf.number == 1}


def log_keys(settings: LogSettings | None, where: str) -> LogKeys:
    """Return the keys that the checkpoints of a repository need; `where` names the file.

    Raises UsageError.
    """
    if settings is None:
        raise UsageError("this repository keeps no audit log", hint=_HINT, where=Where(where))
    witnesses = tuple(parse_note_key(each.key) for each in settings.witnesses)
    if settings.quorum > len(witnesses):
        raise UsageError(
            f"the quorum of {settings.quorum} is larger than the number of witnesses, {len(witnesses)}",
            where=Where(where),
        )
    return LogKeys(parse_note_key(settings.key), witnesses, settings.quorum)


def read_repository_log(
    index: Index, settings: LogSettings | None, where: str, *, cosigned: bool = True
) -> RepositoryLog:
    """Read the log beside an index and check everything about it; without `cosigned`, no witness counts.

    Raises UsageError without one, DataError when a file is missing or damaged, and TrustError when its
    history was truncated or rewritten, a signature is not that of its keys, or it contradicts the index.
    """
    keys = log_keys(settings, where)
    directory = log_directory(index.file)
    read = log_reader(directory, MAX_TILE)
    committed = committed_log(directory)
    needed = keys if cosigned else replace(keys, quorum=0)
    checkpoint, notes = _newest_checkpoint(read, needed, committed)
    size = checkpoint.size if checkpoint is not None else 0
    log = read_log(size, read, {each.size for each in committed.checkpoints if each.size <= size})
    if checkpoint is not None:
        log.check(checkpoint, "the checkpoint")
    for each in committed.checkpoints:
        log.check(each, "a checkpoint in the git history")
    leaves = tuple(parse_entries(log.entries, index.id))
    chains = check_chains(leaves)
    numbered = {leaf.path: leaf_file(entry) for leaf, entry in zip(leaves, log.entries, strict=True)}
    pending, new = _leaf_files(directory, numbered, committed, index.id)
    for leaf in (*pending, *new):
        chains.setdefault(leaf.ref, []).append(leaf)
    missing = tuple(_unlogged(index, chains))
    unsigned = sum(not _is_ours(each, keys) for each in committed.checkpoints)
    if unsigned:
        notes += (f"{unsigned} earlier checkpoints are signed by another key, and agree with the log",)
    known = frozenset(version.ref for version in index.versions() if version.cid is not None)
    notes = (*committed.notes, *notes)
    return RepositoryLog(keys, read, checkpoint, log, leaves, pending, new, missing, known, committed, notes)


def _newest_checkpoint(
    read: ReadFile, keys: LogKeys, committed: CommittedLog
) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """Return the checkpoint, or the newest one of the history when a merge left none that can be read."""
    data = read(CHECKPOINT)
    newest = max(committed.checkpoints, key=lambda each: each.size, default=None)
    if data is None and newest is not None:
        raise TrustError(
            f"the log has no checkpoint, and the git history has one of {newest.size:,} entries",
            hint="restore releases/log/checkpoint from the git history",
        )
    if data is None:
        return None, ()
    signed = [each for each in committed.checkpoints if _is_ours(each, keys)]
    if b"\n<<<<<<< " in b"\n" + data and signed:
        return max(signed, key=lambda each: each.size), (
            "the checkpoint has marks of a merge conflict; the newest one of the history counts",
        )
    return verify_checkpoint(data, keys), ()


def _is_ours(checkpoint: Checkpoint, keys: LogKeys) -> bool:
    try:
        return checkpoint.origin == keys.origin and is_signed_by(checkpoint.note, keys.log)
    except DataError:
        return False


# --- git


def committed_log(directory: Path) -> CommittedLog:
    """Return what git knows about the log in `directory`; nothing without a repository or a commit.

    Raises UserError when git fails.
    """
    history = FileHistory.open(directory / CHECKPOINT) if directory.is_dir() else None
    if history is None:
        return CommittedLog()
    if history.head() is None:
        return CommittedLog(exists=True)
    runner = GitRunner(history.top)
    inside = directory.resolve().relative_to(history.top).as_posix()
    prefix = f"{inside}/"
    contents, is_all = history.contents(MAX_CHECKPOINTS)
    notes = [] if is_all else [f"only the {MAX_CHECKPOINTS} newest checkpoints of the history were compared"]
    try:
        ids = files_at(runner, "HEAD", f"{inside}/{LEAVES}")
        shallow = history.is_shallow()
        added = None if shallow else files_added(runner, f"{inside}/{LEAVES}")
        blobs = read_blobs(runner, [oid for _, oid in contents], MAX_NOTE)
    except GitError as error:
        raise UserError(error.message, hint=error.hint, where=Where(str(directory))) from error
    checkpoints, unreadable = [], 0
    for data in blobs:
        try:
            checkpoints.append(parse_checkpoint(data))
        except DataError:
            unreadable += 1
    if shallow:
        notes.append("the clone is shallow: earlier checkpoints were not compared (git fetch --unshallow)")
    if unreadable:
        notes.append(f"{unreadable} earlier contents of the checkpoint could not be read")
    return CommittedLog(
        {path.removeprefix(prefix): oid for path, oid in ids.items()},
        None if added is None else {path.removeprefix(prefix): number for path, number in added.items()},
        tuple(checkpoints),
        tuple(notes),
        exists=True,
    )


def _leaf_files(
    directory: Path, numbered: Mapping[str, bytes], committed: CommittedLog, index_id: str
) -> tuple[tuple[LogLeaf, ...], tuple[LogLeaf, ...]]:
    """Return the leaves that have a file and no number: committed ones in their order, and new ones.

    `numbered` are the files that the entries must have, by path. Raises DataError when one is missing or has
    other bytes.
    """
    read = log_reader(directory)
    for path, data in numbered.items():
        if not _is_blob(committed.ids.get(path), data) and read(path) != data:
            raise DataError(
                f"the file {path} of the log does not have the leaf that the log has",
                hint="restore it from the git history",
            )
    found: dict[bool, list[LogLeaf]] = {True: [], False: []}
    for path in sorted({*committed.ids, *_files(directory)} - numbered.keys()):
        found_data = read(path)
        if found_data is None:
            continue  # removed before it got a number
        leaf = parse_leaf_file(found_data, path)
        if leaf.index != index_id:
            raise TrustError(f"{path} of the log is of the index {leaf.index!r}, not of {index_id!r}")
        found[_is_blob(committed.ids.get(path), found_data)].append(leaf)
    order = committed.added or {}
    pending = sorted(found[True], key=lambda leaf: (order.get(leaf.path, 0), leaf.order))
    return tuple(pending), tuple(sorted(found[False], key=lambda leaf: leaf.order))


def _is_blob(oid: str | None, data: bytes) -> bool:
    return oid is not None and oid == object_id("blob", data, sha256=len(oid) == 64).hex()


def _files(directory: Path) -> Iterator[str]:
    """Yield the files of leaves in the working tree, by path in the directory of the log."""
    for folder, _, names in os.walk(directory / LEAVES):  # ten times as fast as pathlib
        inside = Path(folder).relative_to(directory).as_posix()
        yield from (f"{inside}/{name}" for name in names if "@" in name and name.endswith(".json"))


# --- the index


def _unlogged(index: Index, chains: Mapping[str, list[LogLeaf]]) -> Iterator[str]:
    """Yield the versions of the index whose state their leaves do not have. Raises TrustError."""
    records = records_directory(index.file)
    for version in index.versions():
        record = None
        with suppress(OSError):
            record = record_path(records, version.model, version.version).read_bytes()
        now = state_of(version, version.cid, record)
        chain = sorted(chains.get(version.ref, ()), key=lambda leaf: leaf.number)
        if not now.cid and not chain:
            continue
        try:
            if new_leaves(index.id, version.model, version.version, chain, now):
                yield version.ref
        except ReconcilerError as error:
            raise TrustError(error.message, hint=error.hint, where=version.where) from None
