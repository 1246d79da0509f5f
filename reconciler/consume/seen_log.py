"""The audit log beside a remote index, as this machine last saw it: it may only grow.

The newest checkpoint is kept beside the cached index. One that is shorter, has another root for the same
size, or is not a continuation of the kept one is refused: somebody shows different histories to different
readers.
With the key of the log in the user's configuration (`logs`), its signatures are verified too, and a version
counts only when the log has it (`require_logged`). Without one, only growth is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reconciler.errors import DataError, LockedError, PeerError, TrustError
from reconciler.fs import replace_file
from reconciler.trust.checkpoint import Checkpoint, LogKeys, parse_checkpoint, verify_checkpoint
from reconciler.trust.log import CHECKPOINT, recompute
from reconciler.trust.merkle import consistency_proof, verify_consistency
from reconciler.trust.note import MAX_NOTE, encode_hash, parse_note_key
from reconciler.trust.tiles import MAX_TILE, ReadFile, TileHashes, read_entries

if TYPE_CHECKING:
    from reconciler.consume.beside import BesideRemoteIndex
    from reconciler.consume.sources import Source
    from reconciler.content.cid import Cid
    from reconciler.index.locations import RepositoryLayout
    from reconciler.index.user_config import PinnedLog

_LOG = "log"
_HINT = "compare with other readers and with witnesses; if the log was restarted on purpose, delete {}"


def pinned_keys(logs: Sequence[PinnedLog], place: str) -> LogKeys | None:
    """Return the keys of the log that the index at `place` must have; None when no key is known.

    Raises UsageError for a malformed key.
    """
    for each in logs:
        if each.index == place:
            settings = each.settings
            witnesses = tuple(parse_note_key(witness.key) for witness in settings.witnesses)
            return LogKeys(parse_note_key(settings.key), witnesses, settings.quorum)
    return None


def check_growth(beside: BesideRemoteIndex, home: Path, keys: LogKeys | None, place: str) -> bytes | None:
    """Return the checkpoint beside the index at `place`, to be kept; None when there is no log.

    Raises TrustError when it contradicts the one kept in `home`, is not signed by `keys`, or is missing
    although there was one; PeerError when it cannot be read then.
    """
    file = home / _LOG / CHECKPOINT
    known = _kept(file)
    expected = known is not None or keys is not None
    hint = _HINT.format(repr(str(file)))
    try:
        data = beside.read(PurePosixPath(_LOG, CHECKPOINT), MAX_NOTE)
        found = None if data is None else _parsed(data, keys, place)
    except (PeerError, DataError) as error:
        if not expected:
            return None  # something else is there, or nothing that can be read
        if isinstance(error, PeerError):
            raise
        raise TrustError(f"the checkpoint beside {place}: {error.message}", hint=error.hint or hint) from None
    if found is None:
        if expected:
            raise TrustError(f"{place} has no audit log, and one is expected", hint=hint)
        return None
    if known is not None:
        _check_continuation(known, found, partial(_beside, beside), place, hint)
    return data


def _parsed(data: bytes, keys: LogKeys | None, place: str) -> Checkpoint:
    what = f"the checkpoint beside {place}"
    return parse_checkpoint(data, what) if keys is None else verify_checkpoint(data, keys, what)


def _check_continuation(known: Checkpoint, found: Checkpoint, read: ReadFile, place: str, hint: str) -> None:
    """Raise TrustError unless the log in `found` begins with that in `known`."""
    if found.origin != known.origin:
        raise TrustError(
            f"{place} has the log {found.origin!r} now, and had {known.origin!r} before", hint=hint
        )
    if found.size < known.size:
        raise TrustError(
            f"the log of {place} shrank: {found.size:,} entries now, and {known.size:,} before",
            hint=hint,
        )
    if found.size == known.size:
        if found.root != known.root:
            raise TrustError(
                f"the log of {place} forked: {found.size:,} entries have the root {encode_hash(found.root)} "
                f"now, and had {encode_hash(known.root)} before",
                hint=hint,
            )
        return
    try:
        proof = consistency_proof(known.size, found.size, TileHashes(found.size, read))
        verify_consistency(known.size, found.size, proof, known.root, found.root)
    except DataError as error:
        raise TrustError(
            f"the log of {place} forked: its {found.size:,} entries do not begin with the {known.size:,} "
            f"that were seen before ({error.message})",
            hint=hint,
        ) from None


def _kept(file: Path) -> Checkpoint | None:
    try:
        return parse_checkpoint(file.read_bytes(), str(file))
    except FileNotFoundError:
        return None
    except DataError as error:
        raise TrustError(
            f"{error.message}, so a log that shrank or forked could not be detected",
            hint=f"delete {str(file)!r} if you trust the log in its current state",
        ) from None


def keep_checkpoint(home: Path, data: bytes | None) -> None:
    """Keep a checkpoint in `home`."""
    if data is not None:
        _keep(home / _LOG / CHECKPOINT, data)


def _keep(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, data, mode=0o644)


# --- versions


def require_logged(
    layout: RepositoryLayout,
    keys: LogKeys,
    ref: str,
    cid: Cid,
    *,
    offline: bool,
    sources: Callable[[], Sequence[Source]],
) -> None:
    """Raise TrustError unless the log of a remote index has the release of `ref` with `cid`.

    The kept checkpoint decides; when it does not have the version, the newest one is asked for, unless
    `offline`. Raises PeerError when the log cannot be read.
    """
    from reconciler.consume.beside import BesideRemoteIndex

    origin, home = layout.origin, layout.index_file.parent
    assert origin is not None  # noqa: S101 - the caller checked it
    place = origin.content or origin.place
    opened = sources() if place.startswith("ipfs://") and not offline else ()
    try:
        with closing(BesideRemoteIndex(place, origin.commit, opened)) as beside:
            known = _verified(home, keys, origin.place)
            read = partial(_cached, home / _LOG, None if offline else beside)
            covered = False
            with suppress(DataError):  # its tiles may have been replaced by larger ones
                covered = known is not None and _has(known, read, ref, cid)
            if not covered:
                if offline:
                    raise _not_logged(ref, cid, keys)
                data = check_growth(beside, home, keys, origin.place)
                assert data is not None  # noqa: S101 - a log was required
                with suppress(OSError, LockedError):
                    keep_checkpoint(home, data)
                if not _has(parse_checkpoint(data), read, ref, cid):
                    raise _not_logged(ref, cid, keys)
    except DataError as error:
        raise TrustError(f"the log {keys.origin} cannot be read: {error.message}", hint=error.hint) from None
    finally:
        for source in opened:
            source.close()


def _verified(home: Path, keys: LogKeys, place: str) -> Checkpoint | None:
    file = home / _LOG / CHECKPOINT
    if _kept(file) is None:
        return None
    return verify_checkpoint(file.read_bytes(), keys, f"the kept checkpoint of {place}")


def _has(checkpoint: Checkpoint, read: ReadFile, ref: str, cid: Cid) -> bool:
    """Return whether the log in `checkpoint` has the release. Raises TrustError for other entries."""
    from reconciler.trust.leaves import parse_leaf

    log = recompute(list(read_entries(checkpoint.size, read)))
    log.check(checkpoint, "the checkpoint")
    model, _, version = ref.rpartition("@")
    wanted = f'"model":"{model}","number":1,'.encode(), f'"version":"{version}"}}'.encode()
    for number, entry in enumerate(log.entries):
        if all(part in entry for part in wanted):
            leaf = parse_leaf(entry, f"entry {number} of the log")
            if (leaf.ref, leaf.number, leaf.cid) == (ref, 1, str(cid)):
                return True
    return False


def _not_logged(ref: str, cid: Cid, keys: LogKeys) -> TrustError:
    return TrustError(
        f"the log {keys.origin} does not have {ref} with the CID {cid}",
        hint="its owner adds it with `reconcile audit checkpoint`; until then use another version",
    )


def _beside(beside: BesideRemoteIndex, path: str) -> bytes | None:
    return beside.read(PurePosixPath(_LOG, path), MAX_TILE)


def _cached(directory: Path, beside: BesideRemoteIndex | None, path: str) -> bytes | None:
    """Return a tile of the log, which never changes, and keep it in `directory`."""
    with suppress(OSError):
        return (directory / path).read_bytes()
    data = None if beside is None else _beside(beside, path)
    if data is not None:
        with suppress(OSError, LockedError):
            _keep(directory / path, data)
    return data
