"""The files of a release with the digests that its SHA256SUMS has for them; nothing is hashed for it again.

A file in no line of SHA256SUMS, such as SHA256SUMS itself, is hashed once when its digest is asked for.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.content import checksums
from reconciler.content.bounds import LIMITS
from reconciler.content.cid import RAW, Cid
from reconciler.errors import DataError, ReconcilerError
from reconciler.gateway.bodies import file_bytes
from reconciler.gateway.paths import ResolvedNode, directory_entries, open_node
from reconciler.gateway.request import Span
from reconciler.gateway.stores import ReadBlock
from reconciler.gateway.written_cid import WrittenCid

_KEPT = 64  # releases whose files are remembered
_MAX_ENTRIES = 1_000_000  # of one release


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One file: `size` in bytes, its SHA-256, and the CID of its content."""

    path: str
    size: int
    sha256: bytes
    address: WrittenCid

    @property
    def hex(self) -> str:
        """The SHA-256 in hex."""
        return self.sha256.hex()


@dataclass(frozen=True, slots=True)
class ReleaseFiles:
    """The files of one release by path, in C-locale order, and by SHA-256."""

    by_path: Mapping[str, ReleaseFile]
    by_digest: Mapping[bytes, ReleaseFile]

    def __iter__(self) -> Iterator[ReleaseFile]:
        return iter(self.by_path.values())


class FileTables:
    """The files of releases by root; those asked for last are remembered. Usable from several threads.

    `reader` returns a function that reads blocks, for one thread.
    """

    def __init__(self, reader: Callable[[], ReadBlock]) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._known: OrderedDict[Cid, ReleaseFiles] = OrderedDict()

    def files(self, root: Cid) -> ReleaseFiles:
        """Return the files below `root`. Raises what reading a block raises, and DataError."""
        with self._lock:
            if (known := self._known.get(root)) is not None:
                self._known.move_to_end(root)
                return known
        found = read_files(root, self._reader())
        with self._lock:
            self._known[root] = found
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found


def read_files(root: Cid, read: ReadBlock) -> ReleaseFiles:
    """Read the directories and SHA256SUMS below `root`, and the first block of each larger file.

    Raises what `read` raises, and DataError.
    """
    nodes = dict(sorted(_walk(open_node(WrittenCid(root), read), read), key=lambda item: item[0].encode()))
    sums = _sums(nodes, read)
    files = {}
    for path, (address, size) in nodes.items():
        digest = sums.get(path) or _hashed(address, size, read)
        files[path] = ReleaseFile(path, size, digest, address)
    return ReleaseFiles(files, {file.sha256: file for file in files.values()})


def open_file(file: ReleaseFile, read: ReadBlock) -> ResolvedNode:
    """Read the first block of a file. Raises what `read` raises, and DataError for another size."""
    return _opened(file.address, file.size, read)


def _walk(root: ResolvedNode, read: ReadBlock) -> Iterator[tuple[str, tuple[WrittenCid, int]]]:
    """Yield path, CID and size of every file below a directory."""
    if not root.is_directory:
        raise DataError(f"{root.address} is not a directory, so it is no release")
    pending = [(root, "", 0)]
    entries = 0
    while pending:
        directory, above, depth = pending.pop()
        if depth > LIMITS.depth:
            raise DataError(f"directories deeper than {LIMITS.depth}")
        for link, name, address in directory_entries(directory, read):
            entries += 1
            if entries > _MAX_ENTRIES:
                raise DataError(f"more than {_MAX_ENTRIES} files and directories")
            try:
                path = above + name.decode()
            except UnicodeDecodeError:
                raise DataError(f"a file name below {directory.address} is not UTF-8") from None
            if address.cid.codec == RAW:  # a link to a raw block has the size of that block
                yield path, (address, link.tsize)
                continue
            node = open_node(address, read)
            if node.is_directory:
                pending.append((node, f"{path}/", depth + 1))
            elif (size := node.file_size) is not None:
                yield path, (address, size)


def _sums(nodes: Mapping[str, tuple[WrittenCid, int]], read: ReadBlock) -> Mapping[str, bytes]:
    if checksums.NAME not in nodes:
        return {}
    address, size = nodes[checksums.NAME]
    if size > checksums.MAX_SIZE:
        return {}
    data = b"".join(file_bytes(_opened(address, size, read), Span(0, size), read))
    try:
        entries = checksums.parse(data).matched(nodes).entries
    except ReconcilerError:
        return {}
    return {entry.path: entry.digest for entry in entries}


def _hashed(address: WrittenCid, size: int, read: ReadBlock) -> bytes:
    digest = hashlib.sha256()
    for piece in file_bytes(_opened(address, size, read), Span(0, size), read):
        digest.update(piece)
    return digest.digest()


def _opened(address: WrittenCid, size: int, read: ReadBlock) -> ResolvedNode:
    node = open_node(address, read)
    if node.file_size != size:
        raise DataError(f"block {address} has another size than its directory declares")
    return node
