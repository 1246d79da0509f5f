"""Verification of SHA256SUMS during a transfer, in one thread.

The CIDs prove every byte of the files; this checks the bundle's own list in addition. Blocks that arrive in
the order of the files are hashed from memory, all others are read from the disk again.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from reconciler.consume.selection import FileSpan, PositionSet, SelectedFiles
from reconciler.consume.sources import Parts
from reconciler.content import checksums
from reconciler.content.walk import Leaf
from reconciler.errors import BundleError, DataError, ReconcilerError

_BUFFER = 1 << 20
_KEPT_AHEAD = 16 << 20  # bytes ahead of the hasher that are kept in memory, plus at most one block
_LONGEST_LAG = 32 << 20  # bytes; a transfer that gets further ahead would leave one core idle at the end


class SumsCheck:
    """A thread that hashes the selected files in order, while `block_written` reports their blocks.

    `finish` waits for it and compares the digests with SHA256SUMS.
    """

    def __init__(self, selected: SelectedFiles, path: Callable[[int], Path]) -> None:
        self._selected = selected
        self._path = path
        self._digests: dict[str, bytes] = {}
        self._written = PositionSet(len(selected.map.layout))
        self._in_memory: dict[int, Parts] = {}
        self._starts = [0, *itertools.accumulate(node.size for node in selected.files)]
        self._at = 0  # bytes hashed, of all files in order
        self._waiting = False
        self._changed = threading.Condition()
        self._stopped = False
        self._error: OSError | None = None
        self._list = next(
            (number for number, node in enumerate(selected.files) if node.path == checksums.NAME), None
        )
        self._thread = threading.Thread(target=self._work, daemon=True, name="sums")

    @property
    def is_selected(self) -> bool:
        """Whether SHA256SUMS is among the selected files."""
        return self._list is not None

    def start(self, written: Iterable[int]) -> None:
        """Start the thread; the blocks at the positions `written` are on the disk already."""
        for position in written:
            self._written.add(position)
        if self.is_selected:
            self._thread.start()

    def block_written(self, position: int, span: FileSpan, block: Parts) -> None:
        """Queue for hashing the leaf `block` at `position`, now on the disk; `span` is its first span.

        Blocks the caller while it is more than _LONGEST_LAG bytes ahead of the hashing.
        """
        if not self.is_selected:
            return
        with self._changed:
            self._written.add(position)
            at = self._starts[span.file] + span.offset
            if 0 <= at - self._at < _KEPT_AHEAD and sum(map(len, block)) == span.size:
                self._in_memory[position] = block
            self._changed.notify_all()
            while at - self._at > _LONGEST_LAG and not (self._waiting or self._stopped):
                self._changed.wait()

    def stop(self) -> None:
        """Stop the thread early."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def finish(self) -> bool:
        """Return whether SHA256SUMS was verified. Raises DataError for a file whose digest differs."""
        if self._list is None:
            return False
        self._thread.join()
        if self._error is not None:
            raise ReconcilerError(f"cannot read the fetched files: {self._error.strerror}")
        try:
            listed = checksums.parse(self._path(self._list).read_bytes())
        except BundleError:  # an artifact may have a file of this name that is not a list
            return False
        for entry in listed.matched(self._digests).entries:
            found = self._digests.get(entry.path)
            if found is not None and found != entry.digest:
                raise DataError(
                    f"{entry.path!r} does not match its digest in {checksums.NAME}",
                    hint="the file has the released CID, so the list is wrong: report this to the publisher",
                )
        return True

    def _work(self) -> None:
        try:
            for number in range(len(self._selected.files)):
                if not self._hash(number):
                    return
        except OSError as error:
            self._error = error
        finally:
            with self._changed:
                self._waiting = True  # from now on, the transfer never waits for this thread
                self._changed.notify_all()

    def _hash(self, number: int) -> bool:
        """Hash one file; return False when the thread was stopped, or the file is too short."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_BUFFER))
        descriptor = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            for leaf in self._selected.leaves(number):
                block = self._wait(number, leaf)
                if self._stopped:
                    return False
                if block is not None:
                    for part in block:
                        digest.update(part)
                    continue
                offset, end = leaf.offset, leaf.offset + leaf.size
                while offset < end:
                    count = os.preadv(descriptor, [buffer[: end - offset]], offset)
                    if not count:
                        return False
                    digest.update(buffer[:count])
                    offset += count
        finally:
            os.close(descriptor)
        self._digests[self._selected.files[number].path] = digest.digest()
        return True

    def _wait(self, number: int, leaf: Leaf) -> Parts | None:
        """Wait until the leaf was written; return its bytes if they are still in memory."""
        with self._changed:
            self._at = self._starts[number] + leaf.offset
            self._waiting = leaf.position not in self._written
            self._changed.notify_all()
            while leaf.position not in self._written and not self._stopped:
                self._changed.wait()
            self._waiting = False
            return self._in_memory.pop(leaf.position, None)
