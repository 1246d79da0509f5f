"""Making of listings: what a source answers is checked before anybody sees it.

A path of a listing becomes a path of a bundle and of a directory on a consumer's disk. The rules are those of
`content.bounds`: UTF-8 names without control characters, no `..`, no absolute path, bounded depth and number.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.content import bounds
from reconciler.content.bounds import LIMITS
from reconciler.content.scan import MAX_DEPTH
from reconciler.errors import DataError
from reconciler.sources.interface import FileListing, ListedFile, SourceProtocolError

MAX_SIZE = 1 << 50  #: bytes of one file; more is a mistake or a lie


def make_listing(
    name: str, location: str, revision: str, files: Iterable[ListedFile], *, immutable: bool = False
) -> FileListing:
    """Return the listing of `files`, sorted, for the source `name`.

    Raises SourceProtocolError, naming the file, for a path that no bundle may have, one that occurs twice or
    is a directory as well, a size that no file has, and for more files than a bundle may have.
    """
    found: dict[str, ListedFile] = {}
    directories: set[str] = set()
    for file in files:
        _check(name, file)
        if file.path in found:
            raise SourceProtocolError(name, "is listed twice", file=file.path)
        found[file.path] = file
        parent = file.path.rpartition("/")[0]
        while parent and parent not in directories:
            directories.add(parent)
            parent = parent.rpartition("/")[0]
        if len(found) + len(directories) > LIMITS.paths:
            raise SourceProtocolError(name, f"lists more than {LIMITS.paths} files and directories")
    for path in found:
        if path in directories:
            raise SourceProtocolError(name, "is listed as a file and as a directory", file=path)
    ordered = sorted(found.values(), key=lambda file: file.path.encode())
    return FileListing(name, location, revision, tuple(ordered), immutable)


def _check(name: str, file: ListedFile) -> None:
    parts = file.path.split("/")
    try:
        for part in parts:
            bounds.decode_name(part.encode())
    except (DataError, UnicodeEncodeError) as error:
        reason = error.message if isinstance(error, DataError) else "a name is not UTF-8"
        raise SourceProtocolError(
            name,
            f"lists {file.path[:200]!r}, which no bundle may contain: {reason}",
            hint="leave it out with `exclude`, or ask the owner of the source to rename it",
        ) from None
    if len(parts) > MAX_DEPTH:
        raise SourceProtocolError(name, f"lists a file more than {MAX_DEPTH} directories deep")
    if not 0 <= file.size <= MAX_SIZE:
        raise SourceProtocolError(name, f"is listed with {file.size} bytes", file=file.path)
