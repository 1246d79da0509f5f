"""The source interface: what a place with the files of a version can do, and its data types.

    SourceError (PeerError)           names the source, and the file where there is one
    ├── SourceUnavailableError        may succeed when repeated: unreachable, broken off, 429, 5xx
    ├── SourceRefusedError            401, 403, gated, or against a rule of ours; repeating does not help
    ├── SourceMissingError            no such repository, revision or file, or a pointer without its object
    └── SourceProtocolError           the peer breaks its protocol: an invalid listing, another range
    SourceMismatchError (DataError)   bytes differ from the digest that the source itself committed to
    errors.SourceChangedError         the file is no longer the listed one: another size, ETag or stamp

All sources are blocking, and usable from several threads.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reconciler.errors import DataError, PeerError


class SourceKind(StrEnum):
    """The kinds of sources; the values are those of `kind` in sources.yaml."""

    DIRECTORY = "directory"
    CAR = "car"
    HUGGING_FACE = "huggingface"
    OBJECT_STORE = "object-store"
    LFS = "lfs"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class SourceDefinition:
    """One name of `releases/sources.yaml`, or the built-in `hf`.

    `url` is the address: the endpoint of a Hugging Face hub ("" for the one of the environment), the bucket
    with a prefix, the server of Git LFS ("" for the one of the git remote), the directory of an HTTP source.
    `endpoint`, `region`, `account` and `etag` ("opaque" where it is no MD5) belong to object stores, which
    are read anonymously without a credential. The `*_env` fields name environment variables; "" is none.
    """

    name: str
    kind: SourceKind
    url: str = ""
    endpoint: str = ""
    region: str = ""
    token_env: str = ""
    key_id_env: str = ""
    secret_env: str = ""
    session_token_env: str = ""
    account: str = ""
    etag: str = ""


HUGGING_FACE = SourceDefinition("hf", SourceKind.HUGGING_FACE)  #: known without a definition


@dataclass(frozen=True, slots=True)
class KnownDigests:
    """What a source itself states about the bytes of one file; None where it states nothing.

    `git_blob` is the SHA-1 that git gives the file as a blob, `lfs_pointer` the one of the Git LFS pointer
    that the repository has in its place.
    """

    sha256: bytes | None = None
    git_blob: bytes | None = None
    lfs_pointer: bytes | None = None
    md5: bytes | None = None


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file of a listing: its path with `/`, its size in bytes, and what the source states about them.

    `etag` and `version_id` pin the object for reading; they are not digests. "" where the source has none.
    """

    path: str
    size: int
    digests: KnownDigests = KnownDigests()
    etag: str = ""
    version_id: str = ""


@dataclass(frozen=True, slots=True)
class FileListing:
    """All files at one revision of a source, sorted by the UTF-8 bytes of their paths.

    `revision` identifies the state of the source as text: a commit, a tree, a CID, the SHA-256 of a list.
    Two listings with one revision have the same files. With `immutable` the revision commits to the bytes as
    well, so that they can never change under it.
    """

    source: str
    location: str
    revision: str
    files: tuple[ListedFile, ...]
    immutable: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """What a repository says about itself at one of its revisions, now; a mutable hint, never a decision.

    `repository` is its present name (another one after a renaming), `commit` what the revision names.
    `license` and `library` are "" and `tags` is empty where it states none.
    """

    repository: str
    commit: str
    license: str = ""
    library: str = ""
    tags: tuple[str, ...] = ()
    private: bool = False
    gated: bool = False
    disabled: bool = False


class SourceSpan(Protocol):
    """The answer to one request for bytes of a file, which are taken once and in order, by one thread."""

    @property
    def end(self) -> int:
        """The end of its bytes in the file: the requested one, an earlier one, or that of the file."""

    def read_into(self, memory: memoryview) -> int:
        """Fill the beginning of `memory` with the next bytes; return how many there were, 0 at the end.

        Raises SourceError, and BrokenOffError where the bytes end before `end`.
        """

    def close(self) -> None:
        """End the request. A connection can be used again when all bytes were taken. May be called twice."""


class WeightSource(Protocol):
    """One location of one source, at one revision."""

    @property
    def name(self) -> str:
        """The name of the source and the location for messages, `NAME:LOCATION`."""

    @property
    def serves_ranges(self) -> bool | None:
        """Whether a part of a file costs no more than its bytes; None until a read has shown it."""

    @property
    def latency(self) -> float | None:
        """Seconds from a request to its first byte, 0 for what is on this machine; None while unknown."""

    def list(self) -> FileListing:
        """Return all files. The first call asks the source, later ones return the same listing.

        Raises SourceError, and BundleError or DataError for a local source that cannot be packed.
        """

    def read(
        self, file: ListedFile, start: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """Iterate over exactly `length` bytes of `file` from byte `start`; by default to its end.

        Pieces have any size above 0. A broken connection is resumed at the byte where it broke. Close the
        generator to stop early. Raises ValueError for a range outside of the file, and else SourceError or
        SourceChangedError, all at the first piece. Digests are not verified; see `verify.ContentVerifier`.
        """

    def request(self, file: ListedFile, start: int, end: int) -> SourceSpan:
        """Request the bytes of `file` from `start` to before `end`, in one attempt: nothing is repeated.

        Raises as `read`, BrokenOffError included.
        """

    def close(self) -> None:
        """Close all connections and files, also under reads of other threads. May be called twice."""


class TracksUpstream(Protocol):
    """A source whose branches move: a repository with names for its revisions."""

    def upstream(self, revision: str) -> UpstreamState:
        """Return what the branch, tag or commit `revision` is now.

        Raises SourceMissingError when the repository or the revision is gone, SourceRefusedError when it is
        gated or private now, and else SourceError.
        """


class SourceError(PeerError):
    """A source failed. `source` is its name, `file` the path of the file concerned, "" without one."""

    def __init__(self, source: str, message: str, *, file: str = "", hint: str | None = None) -> None:
        super().__init__(f"{source}: {f'{file!r} ' if file else ''}{message}", hint=hint)
        self.source = source
        self.file = file


class SourceUnavailableError(SourceError):
    """The source may succeed when asked again; after `retry_after` seconds where it states a time.

    `overloaded` is whether it asks for fewer requests, with a time or without one.
    """

    retry_after: float | None = None
    overloaded: bool = False


class SourceRefusedError(SourceError):
    """The source denies access, or a rule of ours forbids what it asks for."""


class SourceMissingError(SourceError):
    """The source does not have the repository, the revision, the file or its bytes."""


class SourceProtocolError(SourceError):
    """The source breaks its protocol; asking again does not help."""


class SourceMismatchError(DataError):
    """Bytes of a source differ from the digest that it committed to. `source` and `file` name the place."""

    def __init__(self, source: str, file: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{source}: {file!r} {message}", hint=hint)
        self.source = source
        self.file = file
