"""The digests of tar layers: hashed once in the background, and remembered on disk where there is a place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock

from reconciler import fs
from reconciler.errors import ReconcilerError
from reconciler.gateway.doors.image import TarLayer
from reconciler.gateway.request import RequestRefusedError, Span
from reconciler.gateway.stores import ReadBlock

_WAIT_SECONDS = 15.0  # that a request waits for digests; clients give up after 30 and more
_AGAIN_SECONDS = 10


class LayerDigests:
    """Digests by `TarLayer.key`, each in a file below `directory`; None keeps them in memory only.

    A file with another content than 64 hex digits is ignored. Usable from several threads.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock = Lock()
        self._known: dict[bytes, str] = {}
        self._running: dict[bytes, Future[str]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="image-layers")

    def close(self) -> None:
        """Stop hashing."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def known(self, layers: Sequence[TarLayer]) -> list[str] | None:
        """Return the digests of all `layers`, None when one is not known yet."""
        found = [self._lookup(layer.key) for layer in layers]
        return [digest for digest in found if digest] if all(found) else None

    def digests(self, layers: Sequence[TarLayer], reader: Callable[[], ReadBlock]) -> list[str]:
        """Return the digests of `layers`, as OCI writes them; hash those that are not known.

        Raises RequestRefusedError (503) when that takes long; it goes on, and a later call returns them.
        Raises what reading a block raises.
        """
        if (known := self.known(layers)) is not None:
            return known
        running = [self._start(layer, reader) for layer in layers]
        _, unfinished = wait(running, _WAIT_SECONDS)
        if unfinished:
            done = len(running) - len(unfinished)
            raise RequestRefusedError(
                503,
                f"the layers of this image are being hashed: {done} of {len(running)} are done",
                {"Retry-After": str(_AGAIN_SECONDS)},
            )
        return [future.result() for future in running]

    def _start(self, layer: TarLayer, reader: Callable[[], ReadBlock]) -> Future[str]:
        key = layer.key
        with self._lock:
            future = self._running.get(key)
            if future is None or (future.done() and future.exception() is not None):
                future = self._running[key] = self._pool.submit(self._hash, layer, key, reader)
            return future

    def _hash(self, layer: TarLayer, key: bytes, reader: Callable[[], ReadBlock]) -> str:
        if (known := self._lookup(key)) is not None:
            return known
        digest = hashlib.sha256()
        for piece in layer.read(Span(0, layer.size), reader()):
            digest.update(piece)
        text = f"sha256:{digest.hexdigest()}"
        self._known[key] = text
        if self._directory is not None:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                fs.replace_file(self._directory / key.hex(), digest.hexdigest().encode())
            except (OSError, ReconcilerError):  # it is hashed again after a restart
                pass
        return text

    def _lookup(self, key: bytes) -> str | None:
        if (known := self._known.get(key)) is not None:
            return known
        if self._directory is None:
            return None
        try:
            text = (self._directory / key.hex()).read_text("ascii")
            if len(bytes.fromhex(text)) != hashlib.sha256().digest_size:
                return None
        except (OSError, ValueError):
            return None
        self._known[key] = f"sha256:{text.lower()}"
        return self._known[key]
