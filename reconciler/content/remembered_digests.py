"""The digests of files that were just hashed, remembered while one directory is identified several times."""

from __future__ import annotations

from reconciler.content.hashing import FileDigests
from reconciler.content.scan import FileStamp, SourceFile


class RememberedDigests:
    """What was hashed since this was made, by path and stamp."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, FileStamp], FileDigests] = {}

    def get(self, file: SourceFile, *, with_sum: bool) -> FileDigests | None:
        """Return the digests of `file` in its present state, or None; with its sha256 when `with_sum`."""
        known = self._found.get((file.path, file.stamp))
        return None if known is None or (with_sum and known.sha256 is None) else known

    def put(self, file: SourceFile, digests: FileDigests) -> None:
        """Remember the digests of `file`."""
        self._found[file.path, file.stamp] = digests
