"""What a streaming pass remembers: digests of leaves, while it runs and when it has finished.

Both are caches below `.reconcile/cache/streams`, and may be deleted at any time; that costs bytes from the
source. The journal of an unfinished pass names the leaves that were seen at each place, so that a target that
knows blocks only by their CIDs can be asked for them. A wrong entry finds no block, or one that the sums of
the file refuse. The digests of a finished pass identify a version again without reading it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from reconciler import fs
from reconciler.content.cid import RAW, Cid
from reconciler.content.hashing import FileDigests
from reconciler.content.scan import SourceFile
from reconciler.content.unixfs_tree import DIGEST_SIZE, leaf_count
from reconciler.errors import LockedError

_NONE = bytes(DIGEST_SIZE)


class LeafJournal:
    """The leaves that were seen, by position, in the file at `path`; only in memory without one."""

    def __init__(self, path: Path | None, count: int) -> None:
        self._digests = bytearray(DIGEST_SIZE * count)
        self._descriptor: int | None = None
        if path is None:
            return
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)
            known = fs.read_at(self._descriptor, len(self._digests), 0)
            self._digests[: len(known)] = known

    def get(self, position: int) -> Cid | None:
        """Return the leaf that an earlier pass saw at `position`, None when there is no entry."""
        digest = bytes(self._digests[DIGEST_SIZE * position : DIGEST_SIZE * (position + 1)])
        return None if digest == _NONE else Cid(RAW, digest)

    def put(self, leaves: Sequence[tuple[int, Cid]]) -> None:
        """Note leaves that are near each other, by position. Failing to write the file is not an error."""
        changed = False
        for position, cid in leaves:
            place = slice(DIGEST_SIZE * position, DIGEST_SIZE * (position + 1))
            changed = changed or self._digests[place] != cid.digest
            self._digests[place] = cid.digest
        if changed and self._descriptor is not None:
            first = DIGEST_SIZE * min(position for position, _ in leaves)
            end = DIGEST_SIZE * (max(position for position, _ in leaves) + 1)
            with suppress(OSError):
                fs.write_at(self._descriptor, bytes(self._digests[first:end]), first)

    def close(self) -> None:
        """Close the file. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class StreamCache:
    """The journals and finished digests below `directory`; None: nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def journal(self, key: str, count: int) -> LeafJournal:
        """Return the journal of the version with `key`, which has `count` blocks."""
        return LeafJournal(self._path(key, "journal"), count)

    def finished(self, key: str, files: Sequence[SourceFile]) -> dict[str, FileDigests] | None:
        """Return the digests of all `files` by path, None when they are not kept or damaged."""
        path = self._path(key, "digests")
        if path is None:
            return None
        try:
            checksum, _, body = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return None
        found, start = {}, 0
        for file in files:
            stop = start + DIGEST_SIZE * (1 + leaf_count(file.stamp.size))
            entry = body[start:stop]
            found[file.path] = FileDigests(entry[:DIGEST_SIZE], entry[DIGEST_SIZE:])
            start = stop
        return found if start == len(body) else None

    def keep(self, key: str, files: Sequence[SourceFile], digests: Mapping[str, FileDigests]) -> None:
        """Keep the digests of a finished pass, and drop its journal. Failing to is not an error."""
        path = self._path(key, "digests")
        if path is None:
            return
        found = (digests[file.path] for file in files)
        body = b"".join((each.sha256 or _NONE) + each.leaves for each in found)
        with suppress(OSError, LockedError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
            fs.replace_file(path, text, mode=0o600, sync=False)
            path.with_suffix(".journal").unlink(missing_ok=True)

    def forget(self, key: str) -> None:
        """Drop everything that is kept about a version."""
        for kind in ("journal", "digests"):
            path = self._path(key, kind)
            if path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _path(self, key: str, kind: str) -> Path | None:
        return None if self._directory is None else self._directory / f"{key}.{kind}"
