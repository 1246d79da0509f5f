"""Verification of a file while it streams by: against the digests that its source committed to."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from reconciler.content.git_objects import object_hash
from reconciler.sources.interface import ListedFile, SourceMismatchError

_HINT = "nothing was published; the source, or something between it and here, serves other bytes"


class ContentVerifier:
    """The digests of one file over its bytes in order, compared with those that `source` listed.

    Computes only what was listed: SHA-256; the SHA-1 of the git blob; MD5 only where there is nothing else. A
    caller that computes the SHA-256 anyway sets `given_sha256` and passes it to `finish`.
    """

    def __init__(self, source: str, file: ListedFile, *, given_sha256: bool = False) -> None:
        self._source = source
        self._file = file
        self._length = 0
        self._given = given_sha256
        known = file.digests
        self._running: list[tuple[str, Any, bytes]] = []
        if known.sha256 is not None and not given_sha256:
            self._running.append(("SHA-256", hashlib.sha256(), known.sha256))
        if known.git_blob is not None:
            self._running.append(("git blob id", object_hash("blob", file.size), known.git_blob))
        if known.md5 is not None and known.sha256 is None and known.git_blob is None:
            self._running.append(("MD5", hashlib.md5(usedforsecurity=False), known.md5))

    @property
    def proves(self) -> bool:
        """Whether the source listed any digest, so that a success proves more than the length."""
        return bool(self._running) or (self._given and self._file.digests.sha256 is not None)

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes. Raises SourceMismatchError as soon as there are more than listed."""
        self._length += len(data)
        if self._length > self._file.size:
            raise self._mismatch(f"has more than its {self._file.size} bytes")
        for _, running, _ in self._running:
            running.update(data)

    def finish(self, sha256: bytes | None = None) -> None:
        """Compare everything, at the end of the file.

        `sha256` is the digest that the caller computed, with `given_sha256`. Raises SourceMismatchError.
        """
        if self._length != self._file.size:
            raise self._mismatch(f"has {self._length} bytes instead of {self._file.size}")
        found = [(what, running.digest(), wanted) for what, running, wanted in self._running]
        if self._given and self._file.digests.sha256 is not None:
            if sha256 is None:
                raise ValueError("the SHA-256 was to be given")
            found.append(("SHA-256", sha256, self._file.digests.sha256))
        for what, actual, wanted in found:
            if not hmac.compare_digest(actual, wanted):
                raise self._mismatch(
                    f"does not have its {what}: {self._source} committed to {wanted.hex()}, "
                    f"actual {actual.hex()}"
                )

    def _mismatch(self, message: str) -> SourceMismatchError:
        return SourceMismatchError(self._source, self._file.path, message, hint=_HINT)
