"""Stores that fetch what they lack from gateways: one machine fetches a block once, verifies and serves it.

Only blocks of the versions in an index are fetched: their roots, and what the blocks that were read link to.
A client cannot make the server fetch other content. Fetched blocks are kept as files, which are verified
again whenever they are read and may be deleted at any time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from reconciler import fs
from reconciler.content import dagpb
from reconciler.content.bounds import MAX_BLOCK
from reconciler.content.cid import RAW, Cid
from reconciler.errors import BlockUnavailableError, DataError, ReconcilerError
from reconciler.gateway.stores import MissingBlockError, Stores

AHEAD = 8  #: blocks of one body that are fetched ahead of it
_MAX_LINKED = 4_000_000  # links that are remembered: leaves of about 4 TiB
_TRIM_TO = 0.9  # of the limit, when the cache has grown beyond it


class UpstreamSource(Protocol):
    """A place that may have blocks, such as a gateway. Used from several threads."""

    name: str

    def read_block(self, cid: Cid, size: int | None) -> bytes:
        """Return the verified block. Raises ReconcilerError."""
        ...


class BlockCache:
    """Blocks as files below `directory`, at most `limit` bytes of them; the ones used last are kept.

    Usable from several threads and processes; the limit is kept by each process for what it has written.
    """

    def __init__(self, directory: Path, limit: int | None, *, log: Callable[[str], None]) -> None:
        self._directory = directory
        self._limit = limit
        self._log = log
        self._lock = threading.Lock()
        self._size = sum(size for _, size, _ in self._files()) if limit is not None else 0

    def read(self, cid: Cid) -> bytes | None:
        """Return the verified block; None when it is not here, or damaged."""
        file = self._file(cid)
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_BLOCK + 1)
            if self._limit is not None:
                os.utime(file)
        except OSError:
            return None
        if cid.matches(data):
            return data
        with suppress(OSError):  # in a cache that cannot be written, it stays
            file.unlink()
        return None

    def has(self, cid: Cid) -> bool:
        """Return whether there is a file for the block."""
        return self._file(cid).is_file()

    def write(self, cid: Cid, data: bytes) -> None:
        """Keep a verified block; a disk that is full or read-only keeps none, and `log` gets a line."""
        file = self._file(cid)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fs.replace_file(file, data, sync=False)
        except (OSError, ReconcilerError) as error:
            self._log(f"a block cannot be kept in {str(self._directory)!r}: {error}")
            return
        if self._limit is not None:
            with self._lock:
                self._size += len(data)
                if self._size > self._limit:
                    self._trim(int(self._limit * _TRIM_TO))

    def _trim(self, size: int) -> None:
        """Remove the files that were used the longest time ago, until at most `size` bytes are left."""
        files = sorted(self._files())
        left = sum(each for _, each, _ in files)
        for _, each, file in files:
            if left <= size:
                break
            with suppress(OSError):
                file.unlink()
                left -= each
        self._size = left

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield time of last use, size and path of every file."""
        for file in self._directory.glob("??/*"):
            with suppress(OSError):
                status = file.stat()
                yield status.st_mtime, status.st_size, file

    def _file(self, cid: Cid) -> Path:
        text = str(cid)
        return self._directory / text[-2:] / text


class UpstreamStores(Stores):
    """The stores at `directories`, then `cache`, then `sources` in this order.

    `may_fetch` says whether a root may be fetched.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        sources: Sequence[UpstreamSource],
        cache: BlockCache,
        may_fetch: Callable[[Cid], bool],
    ) -> None:
        super().__init__(directories)
        self.ahead = AHEAD
        self._sources = tuple(sources)
        self._cache = cache
        self._may_fetch = may_fetch
        self._lock = threading.Lock()
        self._linked: set[int] = set()
        self._running: dict[Cid, Future[bytes]] = {}

    def read(self, cid: Cid) -> bytes:
        """Return the verified block, fetched if necessary.

        Raises MissingBlockError, or BlockUnavailableError when no source could send it.
        """
        allowed = self._is_linked(cid) or self._may_fetch(cid)
        try:
            data = super().read(cid)
        except BlockUnavailableError:
            if not allowed:
                raise
            data = self._cache.read(cid) or self._fetched(cid)
        if allowed and cid.codec != RAW:
            self._remember_links(data)
        return data

    def verify(self, cid: Cid) -> None:
        """Fetch a block that is neither stored nor cached. Raises BlockUnavailableError."""
        if super().has(cid):
            super().verify(cid)
        elif not self._cache.has(cid) and self._is_linked(cid):
            self._fetched(cid)

    def has(self, cid: Cid) -> bool:
        """Return whether a store or the cache has the block, without reading it."""
        return super().has(cid) or self._cache.has(cid)

    def _fetched(self, cid: Cid) -> bytes:
        """Fetch a block; concurrent calls for one block share one request."""
        with self._lock:
            running = self._running.get(cid)
            mine = running is None
            if running is None:
                running = self._running[cid] = Future()
        if not mine:
            return running.result()
        try:
            data = self._request(cid)
        except BaseException as error:
            running.set_exception(error)
            raise
        else:
            running.set_result(data)
            return data
        finally:
            with self._lock:
                del self._running[cid]

    def _request(self, cid: Cid) -> bytes:
        failures = []
        for source in self._sources:
            try:
                data = source.read_block(cid, None)
            except ReconcilerError as error:
                failures.append(error)
                continue
            self._cache.write(cid, data)
            return data
        missing = all(type(error) is BlockUnavailableError for error in failures)
        reasons = "; ".join(error.message for error in failures)
        kind = MissingBlockError if missing else BlockUnavailableError
        raise kind(f"no upstream could send {cid}: {reasons}")

    def _is_linked(self, cid: Cid) -> bool:
        return _short(cid) in self._linked

    def _remember_links(self, block: bytes) -> None:
        try:
            links = dagpb.decode(block).links
        except DataError:
            return
        with self._lock:
            if len(self._linked) + len(links) <= _MAX_LINKED:
                self._linked.update(_short(link.cid) for link in links)


def _short(cid: Cid) -> int:
    return int.from_bytes(cid.digest[:8], "big")
