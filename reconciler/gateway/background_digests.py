"""The SHA-256 of contents that no list has: hashed once, by one thread in the background, and remembered.

Most doors need no such digest, since SHA256SUMS has those of the files. A tar layer of an image has another
one, and a large file may have no line. A request waits for a while and is then told to come again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

from reconciler import fs
from reconciler.errors import BlockUnavailableError, ReconcilerError
from reconciler.gateway.request import RequestRefusedError
from reconciler.gateway.stores import ReadBlock

_WAIT_SECONDS = 15.0  # that a request waits for digests; clients give up after 30 and more
_AGAIN_SECONDS = 10
_HEX = 2 * hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class UnhashedContent:
    """Bytes without a known SHA-256: `key` is a digest of all that they depend on, `read` yields them."""

    key: bytes
    read: Callable[[ReadBlock], Iterator[bytes | memoryview]]


class BackgroundDigests:
    """SHA-256 digests by `UnhashedContent.key`, each in a file below `directory`; None keeps them in memory.

    A file with another content than 64 hex digits is ignored. Usable from several threads.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock = Lock()
        self._known: dict[bytes, bytes] = {}
        self._running: dict[bytes, Future[bytes]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._stopped = Event()

    def close(self) -> None:
        """Stop hashing; a digest that is not finished is lost."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def known(self, contents: Sequence[UnhashedContent]) -> list[bytes] | None:
        """Return the digests of all `contents`, None when one is not known yet."""
        found = [self._lookup(content.key) for content in contents]
        return [digest for digest in found if digest] if all(found) else None

    def digests(
        self, contents: Sequence[UnhashedContent], reader: Callable[[], ReadBlock], what: str
    ) -> list[bytes]:
        """Return the digests of `contents`; hash those that are not known. `what` names them for people.

        Raises RequestRefusedError (503) when that takes long; it goes on, and a later call returns them.
        Raises what reading a block raises.
        """
        if (known := self.known(contents)) is not None:
            return known
        running = [self._start(content, reader) for content in contents]
        _, unfinished = wait(running, _WAIT_SECONDS)
        if unfinished:
            done = len(running) - len(unfinished)
            raise RequestRefusedError(
                503,
                f"{what} are being hashed: {done} of {len(running)} are done",
                {"Retry-After": str(_AGAIN_SECONDS)},
            )
        return [future.result() for future in running]

    def _start(self, content: UnhashedContent, reader: Callable[[], ReadBlock]) -> Future[bytes]:
        key = content.key
        with self._lock:
            future = self._running.get(key)
            if future is None:
                future = self._running[key] = self._pool.submit(self._hash, content, reader)
                future.add_done_callback(lambda _: self._running.pop(key, None))
            return future

    def _hash(self, content: UnhashedContent, reader: Callable[[], ReadBlock]) -> bytes:
        if (known := self._lookup(content.key)) is not None:
            return known
        digest = hashlib.sha256()
        for piece in content.read(reader()):
            if self._stopped.is_set():
                raise BlockUnavailableError("the server is being stopped")
            digest.update(piece)
        self._known[content.key] = digest.digest()
        if self._directory is not None:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                fs.replace_file(self._directory / content.key.hex(), digest.hexdigest().encode())
            except (OSError, ReconcilerError):  # it is hashed again after a restart
                pass
        return self._known[content.key]

    def _lookup(self, key: bytes) -> bytes | None:
        if (known := self._known.get(key)) is not None:
            return known
        if self._directory is None:
            return None
        try:
            with (self._directory / key.hex()).open("rb") as file:
                text = file.read(_HEX + 1).decode("ascii")
            found = bytes.fromhex(text) if len(text) == _HEX else b""
        except (OSError, ValueError):
            return None
        if 2 * len(found) != _HEX:  # white space, which fromhex ignores
            return None
        self._known[key] = found
        return found
