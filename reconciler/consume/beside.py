"""Files beside an index, such as the records and signatures of its versions, wherever the index is.

The index is on this machine, at an address, in a git repository at a commit, or under a CID. A file that the
place does not have is None; what cannot be asked for raises. Nothing is verified here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from reconciler.consume import git_index
from reconciler.consume.block_file import NoSuchFileError, read_block_file
from reconciler.consume.host_tokens import auth_for
from reconciler.consume.sources import Source
from reconciler.fs import replace_file
from reconciler.index.model import Version
from reconciler.index.records import MAX_RECORD_BYTES, check_record, parse_record_of, record_path
from reconciler.net.client import HttpClient
from reconciler.net.errors import NotFoundError


class BesideRemoteIndex:
    """The files beside the index at `place`, read at `commit` when it is in a git repository.

    `sources` serve the blocks of an ipfs:// index. One connection serves all reads; `close` ends it.
    """

    def __init__(self, place: str, commit: str | None, sources: Sequence[Source] = ()) -> None:
        self._place = place
        self._commit = commit
        self._sources = sources
        self._http: HttpClient | None = None

    def read(self, path: PurePosixPath, limit: int) -> bytes | None:
        """Return the file at `path`, relative to the directory of the index; None when there is none.

        At most `limit` bytes are read. Raises RequestError, DataError when it is larger or not a file, and
        BlockUnavailableError.
        """
        try:
            if self._commit is not None:
                return self._read_repository(self._commit, path, limit)
            if self._place.startswith("ipfs://"):
                return self._read_blocks(path, limit)
            return self._download(path, limit)
        except (NotFoundError, NoSuchFileError):
            return None

    def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            self._http.close()

    def _download(self, path: PurePosixPath, limit: int) -> bytes | None:
        if not self._place.startswith(("https://", "http://")) or "?" in self._place:
            return None
        if self._http is None:
            base = self._place.rpartition("/")[0]
            self._http = HttpClient(base, name=self._place, auth=auth_for(base))
        name = quote(str(path), safe="/+")
        return self._http.request("GET", name, limit=limit, repeatable=True).body

    def _read_repository(self, commit: str, path: PurePosixPath, limit: int) -> bytes | None:
        index = git_index.parse_git_address(self._place)
        beside = PurePosixPath(index.path).parent / path
        found = git_index.read_git_file(replace(index, ref=commit, path=str(beside)), limit)
        return found.data if found else None

    def _read_blocks(self, path: PurePosixPath, limit: int) -> bytes | None:
        name, _, inner = self._place.removeprefix("ipfs://").partition("/")
        if not inner:
            return None  # the index is the whole of that CID
        return read_block_file(f"ipfs://{name}/{PurePosixPath(inner).parent / path}", self._sources, limit)


def fetch_record(place: str, commit: str | None, records: Path, version: Version) -> None:
    """Download the record of `version` to the directory `records`. The index is the one at `place`, read at
    `commit` when it is in a git repository.

    Does nothing when the record is there already, when the index has none, and for an index that is neither
    at an address nor in a repository. Raises RequestError when the record cannot be read, and
    InvalidIndexError when it is invalid or not the record of this version.
    """
    file = record_path(records, version.model, version.version)
    if file.exists() or (commit is None and not place.startswith(("https://", "http://"))):
        return
    path = PurePosixPath("records", version.model, file.name)
    with closing(BesideRemoteIndex(place, commit)) as beside:
        data = beside.read(path, MAX_RECORD_BYTES)
    if data is None:
        return
    check_record(version, parse_record_of(version.model, version.version, data, f"{path} beside {place}"))
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, data, mode=0o644)
