"""SHA256SUMS against the fetched files, while they arrive: one thread hashes behind the transfer.

The CIDs have proven every byte already; this says of the bundle's own list that it is right as well. Blocks
that arrive in the order of the files are hashed from memory, all others are read again from the disk.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path

from reconciler.consume.sources import Parts
from reconciler.consume.wanted import FileSpan, WantedFiles
from reconciler.content import checksums
from reconciler.content.walk import Leaf
from reconciler.errors import DataError, ReconcilerError

_BUFFER = 1 << 20
_AHEAD = 16 << 20  # bytes before the thread that are kept in memory for it, or more by a block
_LONGEST_LAG = 32 << 20  # bytes; a transfer that ran away from it would leave one core with nothing to do


class SumsCheck:
    """Hashes the wanted files in order as `arrived` tells of their blocks.

    `finish` waits for it and compares.
    """

    def __init__(self, wanted: WantedFiles, path: Callable[[int], Path]) -> None:
        self._wanted = wanted
        self._path = path
        self._digests: dict[str, bytes] = {}
        self._done: set[int] = set()
        self._fresh: dict[int, Parts] = {}
        self._starts = [0, *itertools.accumulate(node.size for node in wanted.files)]
        self._at = 0  # byte of all files, one behind the other
        self._waiting = False
        self._changed = threading.Condition()
        self._stopped = False
        self._error: OSError | None = None
        self._list = next(
            (number for number, node in enumerate(wanted.files) if node.path == checksums.NAME), None
        )
        self._thread = threading.Thread(target=self._work, daemon=True, name="sums")

    @property
    def possible(self) -> bool:
        """Whether there is a SHA256SUMS among the wanted files."""
        return self._list is not None

    def start(self, done: set[int]) -> None:
        """Begin; the blocks at the positions `done` are there already."""
        self._done |= done
        if self.possible:
            self._thread.start()

    def arrived(self, position: int, place: FileSpan, block: Parts) -> None:
        """The leaf `block` at `position` is written, first of all at `place`. Waits when it is far ahead."""
        if not self.possible:
            return
        with self._changed:
            self._done.add(position)
            at = self._starts[place.file] + place.offset
            if 0 <= at - self._at < _AHEAD and sum(map(len, block)) == place.size:
                self._fresh[position] = block
            self._changed.notify_all()
            while at - self._at > _LONGEST_LAG and not (self._waiting or self._stopped):
                self._changed.wait()

    def stop(self) -> None:
        """End early."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def finish(self) -> bool:
        """Whether the list was checked. Raises DataError, naming a file that it says something else of."""
        if self._list is None:
            return False
        self._thread.join()
        if self._error is not None:
            raise ReconcilerError(f"cannot read what was fetched: {self._error.strerror}")
        listed = checksums.parse(self._path(self._list).read_bytes())
        for entry in listed:
            found = self._digests.get(entry.path)
            if found is not None and found != entry.digest:
                raise DataError(
                    f"{entry.path!r} is not what {checksums.NAME} says of it",
                    hint="the bundle was released like this: its CID holds, its own list does not",
                )
        return True

    def _work(self) -> None:
        try:
            for number in range(len(self._wanted.files)):
                if not self._hash(number):
                    return
        except OSError as error:
            self._error = error
        finally:
            with self._changed:
                self._waiting = True  # for good: nobody is to wait for this thread
                self._changed.notify_all()

    def _hash(self, number: int) -> bool:
        """Whether it came to the end of the file."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_BUFFER))
        descriptor = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            for leaf in self._wanted.leaves(number):
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
        self._digests[self._wanted.files[number].path] = digest.digest()
        return True

    def _wait(self, number: int, leaf: Leaf) -> Parts | None:
        """Wait until the leaf has arrived; its bytes, where they are still in memory."""
        with self._changed:
            self._at = self._starts[number] + leaf.offset
            self._waiting = leaf.position not in self._done
            self._changed.notify_all()
            while leaf.position not in self._done and not self._stopped:
                self._changed.wait()
            self._waiting = False
            return self._fresh.pop(leaf.position, None)
