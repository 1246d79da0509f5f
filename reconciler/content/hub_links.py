"""The links of a snapshot in the cache of huggingface_hub, the only links that a bundle may be made from.

    <repository>/snapshots/<revision>/<path>  ->  ../../blobs/<name>      one more `../` for each directory

Accepted is a link in exactly this form whose blob is a regular file. Everything is opened one name below the
other, from the descriptor of the snapshot and without following links, so no link leads to a file outside
`blobs/`, even while somebody changes the directories. Source: huggingface.co/docs/hub/local-cache.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from reconciler.errors import BundleError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOB = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PARTIAL = ".incomplete"  # the ending of a download in progress
_DOWNLOAD_HINT = "download the snapshot again (`hf download` completes it)"
_LINK_HINT = (
    "replace it by the file itself (cp --dereference), or move it out of the directory; the only accepted "
    "links are those of a Hugging Face cache, snapshots/<revision>/<file> -> ../../blobs/<name>"
)


class HubBlobs:
    """The `blobs/` beside the snapshot that is open as `root`; opened with the first link.

    With `boundary`, the cache must be inside that directory.
    """

    def __init__(self, root: int, boundary: Path | None) -> None:
        self._root = root
        self._boundary = boundary
        self._blobs: int | None = None

    def close(self) -> None:
        """Close the directory."""
        if self._blobs is not None:
            os.close(self._blobs)
            self._blobs = None

    def resolve(self, link: str, path: str) -> tuple[str, os.stat_result]:
        """Return the name and the status of the blob that `link`, the target of the link at `path`, names.

        Raises BundleError for any other link, and for a blob that is missing or not a regular file.
        """
        prefix = "../" * (path.count("/") + 2) + "blobs/"
        name = link.removeprefix(prefix)
        if not link.startswith(prefix) or not _BLOB.fullmatch(name) or name.endswith(_PARTIAL):
            raise not_accepted(path)
        blobs = self._open(path)
        try:
            status = os.stat(name, dir_fd=blobs, follow_symlinks=False)
        except FileNotFoundError:
            raise BundleError(
                f"{path!r}: {_missing(blobs, name)} in blobs/ of its cache", hint=_DOWNLOAD_HINT
            ) from None
        except OSError as error:
            raise BundleError(f"cannot read {path!r}: {(error.strerror or '').lower()}") from None
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(
                f"{path!r}: {name!r} in blobs/ of its cache is not a regular file", hint=_DOWNLOAD_HINT
            )
        return name, status

    def _open(self, path: str) -> int:
        """Return the descriptor of `blobs/`. Raises BundleError when this is not a snapshot of a cache."""
        if self._blobs is None:
            try:
                self._blobs = self._opened()
            except OSError:
                raise not_accepted(path) from None
            if self._boundary is not None and not _is_below(self._blobs, self._boundary):
                raise BundleError(
                    f"{path!r} is a link into a cache that is only partly inside {str(self._boundary)!r}",
                    hint="name a directory that contains the whole cache with --source-root",
                )
        return self._blobs

    def _opened(self) -> int:
        """Open `../../blobs`; raise OSError unless the snapshot is in a directory `snapshots` beside it."""
        repository = os.open("../..", _DIRECTORY, dir_fd=self._root)
        try:
            snapshots = os.stat("snapshots", dir_fd=repository, follow_symlinks=False)
            if not os.path.samestat(snapshots, os.stat("..", dir_fd=self._root)):
                raise FileNotFoundError
            return os.open("blobs", _DIRECTORY, dir_fd=repository)
        finally:
            os.close(repository)


def not_accepted(path: str) -> BundleError:
    """Make the error for the link at `path`."""
    return BundleError(f"{path!r} is a symbolic link", hint=_LINK_HINT)


def is_wrong(blob: str, sha256: bytes | None) -> bool:
    """Return whether `blob` is named by another SHA-256 than that of its bytes, as large files are."""
    return sha256 is not None and bool(_SHA256.fullmatch(blob)) and bytes.fromhex(blob) != sha256


def damaged(path: str, blob: str) -> BundleError:
    """Make the error for a blob that `is_wrong`."""
    return BundleError(
        f"{path!r}: its bytes do not have the SHA-256 that its cache names them by, {blob}",
        hint="delete that file in blobs/, then download the snapshot again",
    )


def _missing(blobs: int, name: str) -> str:
    with suppress(OSError):
        size = os.stat(name + _PARTIAL, dir_fd=blobs, follow_symlinks=False).st_size
        return f"the download of {name!r} ended after {size} bytes"
    return f"{name!r} is missing"


def _is_below(directory: int, boundary: Path) -> bool:
    """Return whether the open `directory` is `boundary` or below it."""
    wanted = boundary.stat()
    current = os.dup(directory)
    try:
        while not os.path.samestat(here := os.fstat(current), wanted):
            above = os.open("..", _DIRECTORY, dir_fd=current)
            os.close(current)
            current = above
            if os.path.samestat(os.fstat(current), here):
                return False
        return True
    finally:
        os.close(current)
