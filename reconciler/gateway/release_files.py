"""The files of a release with the digests that its SHA256SUMS has for them; nothing is hashed for it again.

A file in no line of SHA256SUMS, such as SHA256SUMS itself, is hashed once when its digest is asked for, and
so are files whose lines contradict each other: two digests for one path, or one digest for two contents.
The names of files reach the disks of clients, so they follow the rules for bundles.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from reconciler.content import checksums
from reconciler.content.bounds import LIMITS, decode_name
from reconciler.content.cid import RAW, Cid
from reconciler.errors import BlockUnavailableError, DataError, ReconcilerError
from reconciler.gateway.background_digests import UnhashedContent
from reconciler.gateway.bodies import file_bytes
from reconciler.gateway.paths import ResolvedNode, directory_entries, open_node
from reconciler.gateway.request import Span
from reconciler.gateway.stores import ReadBlock
from reconciler.gateway.written_cid import WrittenCid

_KEPT = 64  # releases whose files are remembered
_MAX_ENTRIES = 250_000  # files and directories of one release
_MAX_PATH_BYTES = 32 << 20  # of all their paths together
_HASHED_AT_ONCE = 16 << 20  # bytes of one release that a request may wait for


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
    """The files of one release by path, in C-locale order, and the folders that they are in."""

    by_path: Mapping[str, ReleaseFile]
    folders: frozenset[str] = field(default=frozenset())

    def __iter__(self) -> Iterator[ReleaseFile]:
        return iter(self.by_path.values())


HashFiles = Callable[[Sequence[UnhashedContent]], Sequence[bytes]]


class FileTables:
    """The files of releases by root; those asked for last are remembered. Usable from several threads.

    `reader` returns a function that reads blocks, for one thread. `hash_files` returns the digests of files
    that are too large for a request to wait for; without one, each is hashed at once.
    """

    def __init__(self, reader: Callable[[], ReadBlock], hash_files: HashFiles | None = None) -> None:
        self._reader = reader
        self._hash_files = hash_files
        self._lock = threading.Lock()
        self._known: OrderedDict[Cid, ReleaseFiles | str] = OrderedDict()  # the text says what is invalid
        self._running: dict[Cid, Future[ReleaseFiles]] = {}

    def files(self, root: Cid) -> ReleaseFiles:
        """Return the files below `root`; concurrent calls for one root read it once.

        Raises what reading a block raises, DataError, and RequestRefusedError (503) while files are hashed.
        """
        with self._lock:
            if (known := self._known.get(root)) is not None:
                self._known.move_to_end(root)
                if isinstance(known, str):
                    raise DataError(known)
                return known
            running = self._running.get(root)
            mine = running is None
            if running is None:
                running = self._running[root] = Future()
        return self._read(root, running) if mine else running.result()

    def _read(self, root: Cid, running: Future[ReleaseFiles]) -> ReleaseFiles:
        try:
            found = read_files(root, self._reader(), self._hash_files)
        except BaseException as error:
            if isinstance(error, DataError) and not isinstance(error, BlockUnavailableError):
                # a property of the bytes, so it stays
                self._remember(root, error.message)
            running.set_exception(error)
            raise
        else:
            self._remember(root, found)
            running.set_result(found)
            return found
        finally:
            with self._lock:
                del self._running[root]

    def _remember(self, root: Cid, found: ReleaseFiles | str) -> None:
        with self._lock:
            self._known[root] = found
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)


def read_files(root: Cid, read: ReadBlock, hash_files: HashFiles | None = None) -> ReleaseFiles:
    """Read the directories and SHA256SUMS below `root`, and the first block of each larger file.

    `hash_files` as in FileTables. Raises what `read` raises, what `hash_files` raises, and DataError.
    """
    nodes = dict(sorted(_walk(open_node(WrittenCid(root), read), read), key=lambda item: item[0].encode()))
    digests = _listed_digests(nodes, read)
    left = _HASHED_AT_ONCE if hash_files else None
    later: dict[str, UnhashedContent] = {}
    for path, (address, size) in nodes.items():
        if path in digests:
            continue
        if left is None or size <= left:
            left = None if left is None else left - size
            digests[path] = _hashed(address, size, read)
        else:
            later[path] = unhashed_file(address, size)
    if later and hash_files:
        digests |= zip(later, hash_files(tuple(later.values())), strict=True)
    files = {path: ReleaseFile(path, size, digests[path], address) for path, (address, size) in nodes.items()}
    return ReleaseFiles(files, frozenset(folder for path in files for folder in folders_of(path)))


def unhashed_file(address: WrittenCid, size: int) -> UnhashedContent:
    """Return the content of a file, to be hashed."""
    key = hashlib.sha256(b"file" + bytes(address)).digest()
    return UnhashedContent(key, lambda read: file_bytes(_opened(address, size, read), Span(0, size), read))


def folders_of(path: str) -> Iterator[str]:
    """Yield the folders that a file is in, the outermost first."""
    parts = path.split("/")[:-1]
    yield from ("/".join(parts[: number + 1]) for number in range(len(parts)))


def open_file(file: ReleaseFile, read: ReadBlock) -> ResolvedNode:
    """Read the first block of a file. Raises what `read` raises, and DataError for another size."""
    return _opened(file.address, file.size, read)


def _walk(root: ResolvedNode, read: ReadBlock) -> Iterator[tuple[str, tuple[WrittenCid, int]]]:
    """Yield path, CID and size of every file below a directory, one directory after the other.

    Raises what `read` raises; DataError for a name that no bundle may have, or more than the limits allow.
    """
    if not root.is_directory:
        raise DataError(f"{root.address} is not a directory, so it is not a release")
    pending = [(directory_entries(root, read), "")]
    entries = path_bytes = 0
    seen: set[str] = set()
    while pending:
        directory, above = pending[-1]
        link, raw_name, address = next(directory, (None, b"", None))
        if link is None or address is None:
            pending.pop()
            continue
        path = above + decode_name(raw_name)
        entries += 1
        path_bytes += len(path.encode())
        if entries > _MAX_ENTRIES or path_bytes > _MAX_PATH_BYTES:
            raise DataError(f"more than {_MAX_ENTRIES} files and directories, or paths that are too long")
        if path in seen:
            raise DataError(f"a directory has two entries {path!r}")
        seen.add(path)
        if address.cid.codec == RAW:  # a link to a raw block has the size of that block
            yield path, (address, link.tsize)
            continue
        node = open_node(address, read)
        if node.is_directory:
            if len(pending) > LIMITS.depth:
                raise DataError(f"directories deeper than {LIMITS.depth}")
            pending.append((directory_entries(node, read), f"{path}/"))
        elif (size := node.file_size) is not None:
            yield path, (address, size)


def _listed_digests(nodes: Mapping[str, tuple[WrittenCid, int]], read: ReadBlock) -> dict[str, bytes]:
    """Return the digests of SHA256SUMS by path, without those that cannot all be true."""
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
    by_path: dict[str, set[bytes]] = defaultdict(set)
    contents: dict[bytes, set[WrittenCid]] = defaultdict(set)
    for entry in entries:
        if entry.path in nodes:
            by_path[entry.path].add(entry.digest)
            contents[entry.digest].add(nodes[entry.path][0])
    return {
        path: digest
        for path, found in by_path.items()
        for digest in found
        if len(found) == 1 and len(contents[digest]) == 1
    }


def _hashed(address: WrittenCid, size: int, read: ReadBlock) -> bytes:
    digest = hashlib.sha256()
    for piece in unhashed_file(address, size).read(read):
        digest.update(piece)
    return digest.digest()


def _opened(address: WrittenCid, size: int, read: ReadBlock) -> ResolvedNode:
    node = open_node(address, read)
    if node.file_size != size:
        raise DataError(f"block {address} has another size than its directory declares")
    return node
