"""SHA256SUMS against the fetched files, while they arrive: one thread reads behind the transfer.

The CIDs have proven every byte already; this says of the bundle's own list that it is right as well.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from reconciler.consume.wanted import Wanted
from reconciler.content import checksums
from reconciler.errors import DataError, ReconcilerError

_BUFFER = 1 << 20


class SumsCheck:
    """Hashes the wanted files in order as `arrived` tells of their blocks.

    `finish` waits for it and compares.
    """

    def __init__(self, wanted: Wanted, path: Callable[[int], Path]) -> None:
        self._wanted = wanted
        self._path = path
        self._digests: dict[str, bytes] = {}
        self._done: set[int] = set()
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

    def arrived(self, position: int) -> None:
        """The block at `position` is written, at all its places."""
        with self._changed:
            self._done.add(position)
            self._changed.notify()

    def stop(self) -> None:
        """End early."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
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
        buffer = memoryview(bytearray(_BUFFER))
        try:
            for number, node in enumerate(self._wanted.files):
                digest = hashlib.sha256()
                descriptor = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    for leaf in self._wanted.leaves(number):
                        if not self._wait(leaf.position):
                            return
                        offset, end = leaf.offset, leaf.offset + leaf.size
                        while offset < end:
                            count = os.preadv(descriptor, [buffer[: end - offset]], offset)
                            if not count:
                                return
                            digest.update(buffer[:count])
                            offset += count
                finally:
                    os.close(descriptor)
                self._digests[node.path] = digest.digest()
        except OSError as error:
            self._error = error

    def _wait(self, position: int) -> bool:
        with self._changed:
            while position not in self._done and not self._stopped:
                self._changed.wait()
            return not self._stopped
