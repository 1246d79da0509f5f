"""Git LFS as a source: a directory of this repository at a commit, with the objects that its pointers name.

Nothing is checked out or smudged. Git gives the tree; an object comes from `.git/lfs/objects` where it is, of
this repository or of a remote on this machine, or else from the server of Git LFS. A location is `PATH`, at
HEAD, or `PATH@COMMIT`.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler.content.lfs_pointer import MAX_SIZE, LfsPointer, parse_pointer
from reconciler.errors import UsageError
from reconciler.fs import read_at
from reconciler.git.runner import GitError, GitFailure, GitRunner
from reconciler.sources.interface import (
    FileListing,
    KnownDigests,
    ListedFile,
    SourceDefinition,
    SourceError,
    SourceMissingError,
    SourceProtocolError,
    SourceSpan,
)
from reconciler.sources.lfs_remote import find_remote
from reconciler.sources.lfs_server import LfsServer
from reconciler.sources.listing import make_listing
from reconciler.sources.once import Once
from reconciler.sources.ranges import checked_range, read_resuming
from reconciler.sources.spans import PieceSpan

_PIECE = 1 << 20
_LARGEST_BLOB = 64 << 20  # bytes of a file that is not in LFS, which git gives only as a whole
_AT_ONCE = 100  # objects in one request of the batch API
_LOCATION = re.compile(r"(?P<path>[^\0]*?)(?:@(?P<commit>[0-9a-f]{40}))?")
_ENTRY = re.compile(rb"(\d{6}) (\w+) ([0-9a-f]{40}|[0-9a-f]{64}) +(\d+|-)\t(.+)", re.DOTALL)
_KINDS = {b"120000": "a symbolic link", b"160000": "a submodule"}


def open_source(
    definition: SourceDefinition, location: str, *, root: Path, environ: Mapping[str, str]
) -> LfsSource:
    """Open a directory of the repository around `root`. Raises UsageError for a path outside of it."""
    found = _LOCATION.fullmatch(location)
    path = found["path"].strip("/") if found else ""
    if found is None or ".." in path.split("/") or found["path"].startswith("/"):
        raise UsageError(
            f"{location!r} is not a directory of this repository", hint="write it like models/llm/1.2.0"
        )
    return LfsSource(f"{definition.name}:{location}", definition, root, path, found["commit"], environ)


@dataclass(frozen=True, slots=True)
class _Tree:
    """What git has: the listing, the object ids of plain files, and the LFS files in their order."""

    listing: FileListing
    plain: Mapping[str, str]
    order: Mapping[str, int]
    large: tuple[ListedFile, ...]


class LfsSource:
    """The files below `path` at `commit` (None: HEAD) of the repository around `root`."""

    def __init__(
        self,
        name: str,
        definition: SourceDefinition,
        root: Path,
        path: str,
        commit: str | None,
        environ: Mapping[str, str],
    ) -> None:
        self.name = name
        self._definition = definition
        self._path = path
        self._commit = commit
        self._environ = environ
        self._git = GitRunner(root)
        self._tree = Once(self._read_tree)
        self._objects = Once(self._object_directories)
        self._server = Once(self._open_server)
        self._lock = threading.Lock()
        self._blob = "", b""  # the last one that was read, for the next range of it, with its id

    @property
    def serves_ranges(self) -> bool | None:
        """Implement WeightSource.serves_ranges."""
        server = self._server.made()
        return None if server is None else server.serves_ranges

    @property
    def latency(self) -> float | None:
        """Implement WeightSource.latency."""
        server = self._server.made()
        return None if server is None else server.latency

    def close(self) -> None:
        """Close all connections. May be called twice."""
        if (server := self._server.made()) is not None:
            server.close()

    def list(self) -> FileListing:
        """List the tree, and read the pointers in it. No object is needed for that."""
        return self._tree.get().listing

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """Iterate over a range of `file`, from this machine where the object is here."""
        start, end = checked_range(file, start, length)
        here = self._here(file, start, end)
        if here is not None:
            yield from here
            return
        server, others = self._remote(file)

        def read_once(first: int, last: int) -> Iterator[bytes]:
            return server.span(file, first, last, others=others).pieces()

        yield from read_resuming(self.name, file, start, end, read_once)

    def request(self, file: ListedFile, start: int, end: int) -> SourceSpan:
        """Implement WeightSource.request."""
        checked_range(file, start, end - start)
        here = self._here(file, start, end)
        if here is not None:
            return PieceSpan(here, start, end)
        server, others = self._remote(file)
        return server.span(file, start, end, others=others, once=True)

    def _here(self, file: ListedFile, start: int, end: int) -> Generator[bytes, None, None] | None:
        """Return a range of what is on this machine; None where it is not."""
        tree = self._tree.get()
        if file.path in tree.plain:
            data = self._plain(file, tree.plain[file.path])
            return (data[at : min(at + _PIECE, end)] for at in range(start, end, _PIECE))
        if file.path not in tree.order:
            raise SourceMissingError(self.name, "is not in the listing", file=file.path)
        path = self._local(file)
        return None if path is None else self._read_local(path, file, start, end)

    def _remote(self, file: ListedFile) -> tuple[LfsServer, Sequence[ListedFile]]:
        """Return the server that has the object of `file`, and the files after it."""
        tree = self._tree.get()
        others = tree.large[tree.order[file.path] : tree.order[file.path] + _AT_ONCE]
        server = self._server.get()
        if server is None:
            raise SourceMissingError(
                self.name,
                "is not in .git/lfs, and no server of Git LFS is known",
                file=file.path,
                hint="fetch the objects with `git lfs fetch`, or set the url of the source",
            )
        return server, others

    # --- the tree

    def _read_tree(self) -> _Tree:
        commit = self._commit or "HEAD"
        tree = self._run("rev-parse", "--verify", "--quiet", f"{commit}:./{self._path}").decode().strip()
        if self._run("cat-file", "-t", tree).strip() != b"tree":
            raise SourceMissingError(self.name, f"{self._path!r} is not a directory at {commit}")
        entries: list[tuple[str, str, int]] = []
        for line in filter(None, self._run("ls-tree", "-r", "-z", "-l", tree).split(b"\0")):
            found = _ENTRY.fullmatch(line)
            path = os.fsdecode(found[5] if found else line)
            if found is None or found[2] != b"blob" or found[1] in _KINDS:
                kind = _KINDS.get(found[1] if found else b"", "no file")
                raise SourceProtocolError(self.name, f"is {kind}", file=path)
            entries.append((path, found[3].decode(), int(found[4])))
        small = [oid for _, oid, size in entries if size < MAX_SIZE]
        pointers = self._pointers(small)
        files: list[ListedFile] = []
        plain: dict[str, str] = {}
        for path, oid, size in entries:
            pointer = pointers.get(oid)
            if pointer is None:
                plain[path] = oid
                digest = bytes.fromhex(oid) if len(oid) == 40 else None
                files.append(ListedFile(path, size, KnownDigests(git_blob=digest)))
                continue
            if pointer.extended:
                raise SourceProtocolError(
                    self.name,
                    "has a pointer with extensions, so its bytes are not those that its users see",
                    file=path,
                )
            digest = bytes.fromhex(oid) if len(oid) == 40 else None
            known = KnownDigests(sha256=pointer.sha256, lfs_pointer=digest)
            files.append(ListedFile(path, pointer.size, known))
        listing = make_listing(self.name, self._path, tree, files, immutable=True)
        large = tuple(file for file in listing.files if file.path not in plain)
        return _Tree(listing, plain, {file.path: at for at, file in enumerate(large)}, large)

    def _pointers(self, oids: Sequence[str]) -> dict[str, LfsPointer]:
        """Return the pointers among blobs that are small enough to be some."""
        if not oids:
            return {}
        data = self._run("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in oids).encode())
        found: dict[str, LfsPointer] = {}
        at = 0
        for oid in oids:
            end = data.index(b"\n", at)
            words = data[at:end].split()
            if len(words) != 3:
                raise SourceMissingError(self.name, f"git does not have the object {oid}")
            at = end + 1 + int(words[2])
            if (pointer := parse_pointer(data[end + 1 : at])) is not None:
                found[oid] = pointer
            at += 1
        return found

    def _plain(self, file: ListedFile, oid: str) -> bytes:
        if file.size > _LARGEST_BLOB:
            raise SourceProtocolError(
                self.name,
                f"has {file.size} bytes in git itself; the limit is {_LARGEST_BLOB}",
                file=file.path,
                hint="track it with Git LFS (`git lfs migrate import`)",
            )
        with self._lock:
            if self._blob[0] != oid:
                self._blob = "", b""  # before the next one is in memory as well
                self._blob = oid, self._run("cat-file", "blob", oid)
            data = self._blob[1]
        if len(data) != file.size:
            raise SourceProtocolError(self.name, f"has {len(data)} bytes in git", file=file.path)
        return data

    def _run(self, *command: str, stdin: bytes = b"") -> bytes:
        try:
            return self._git.run(*command, stdin=stdin).stdout
        except GitError as error:
            raise self._failed(error) from None

    def _failed(self, error: GitError) -> SourceError:
        if error.verb == "rev-parse" and error.failure is GitFailure.OTHER:
            commit = self._commit or "HEAD"
            return SourceMissingError(
                self.name,
                f"there is no directory {self._path!r} at {commit}",
                hint="commit it, or fetch the whole history where the clone is shallow",
            )
        return SourceMissingError(self.name, error.message, hint=error.hint)

    # --- the objects

    def _local(self, file: ListedFile) -> Path | None:
        """Return the object of `file` on this machine; None when it is not here, or has another size."""
        assert file.digests.sha256 is not None  # noqa: S101 - it comes from a pointer
        oid = file.digests.sha256.hex()
        for directory in self._objects.get():
            path = directory / oid[:2] / oid[2:4] / oid
            with suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_size == file.size:
                    return path
        return None

    def _read_local(self, path: Path, file: ListedFile, start: int, end: int) -> Generator[bytes, None, None]:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                while start < end:
                    piece = read_at(descriptor, min(_PIECE, end - start), start)
                    if not piece:
                        raise SourceProtocolError(
                            self.name, f"was truncated to {start} bytes while it was read", file=file.path
                        )
                    yield piece
                    start += len(piece)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise SourceMissingError(
                self.name, f"cannot be read in .git/lfs ({error.strerror})", file=file.path
            ) from None

    def _object_directories(self) -> tuple[Path, ...]:
        common = self._git.run("rev-parse", "--git-common-dir").text
        git_dir = (self._git.directory / common).resolve()
        storage = self._git.run("config", "--get", "lfs.storage", statuses=(1,)).text
        own = git_dir / (storage or "lfs") / "objects"
        return (own, *find_remote(self._git).directories)

    def _open_server(self) -> LfsServer | None:
        remote = find_remote(self._git, self._definition, self._environ)
        return None if remote.address is None else LfsServer(self.name, remote.address, remote.auth)
