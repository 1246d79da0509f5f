"""Bounds on untrusted input: sizes of blocks and DAGs, and the names that files may have.

The sizes are generous for any real bundle and small for the machine. A DAG that exceeds them is an error and
is never read in part.

dag-pb names are raw bytes. A bundle must unpack to the same directory for every consumer, so a name is UTF-8
without control characters, is not a path, and differs from its siblings by more than case or Unicode
normalization. The same rules apply when a bundle is packed, read and unpacked.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.errors import DataError

MAX_BLOCK = 2 * 1024 * 1024  #: bytes of one block: the limit of Bitswap, and twice the profile's chunk
MAX_CAR_HEADER = 1024 * 1024  #: bytes of a CAR header
MAX_CAR_SECTION = MAX_BLOCK + 128  #: bytes of a CAR section, its CID included
MAX_NAME = 255  #: bytes of a file name, as on common file systems


@dataclass(frozen=True, slots=True)
class DagLimits:
    """Bounds of one DAG."""

    depth: int = 64  #: dag-pb blocks from the root down
    blocks: int = 4 * 1024 * 1024  #: unique blocks
    tree_bytes: int = 256 * 1024 * 1024  #: of all inner nodes together
    paths: int = 1024 * 1024  #: files and directories as listed, shared ones counted each time
    path_bytes: int = 128 * 1024 * 1024  #: of all listed paths together


LIMITS = DagLimits()


def decode_name(name: bytes) -> str:
    """Decode the name of one file or directory. Raises DataError when a bundle must not contain it."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise DataError(f"name {name!r} is not UTF-8") from None
    if text in ("", ".", ".."):
        raise DataError(f"{text!r} is not a file name")
    if "/" in text:
        raise DataError(f"name {text!r} contains a slash")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise DataError(f"name {text!r} contains a control character")
    if len(name) > MAX_NAME:
        raise DataError(f"name {text[:40]!r}… is longer than {MAX_NAME} bytes")
    return text


class NameForms:
    """A set of paths, in which a path is also found by another Unicode form of its name.

    File systems may change the form of a name (HFS+ decomposes it), and some find a file by either.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact = set(paths)
        self._forms: dict[str, str | None] | None = None  # made for the first path that is not there

    def find(self, path: str) -> str:
        """Return the one path that `path` names, or `path` itself when there is none, or more than one."""
        if path in self._exact:
            return path
        if self._forms is None:
            self._forms = {}
            for each in self._exact:
                key = unicodedata.normalize("NFC", each)
                self._forms[key] = None if key in self._forms else each
        return self._forms.get(unicodedata.normalize("NFC", path)) or path


def collisions(paths: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of `paths` that are one file or directory on some file system, each sorted."""
    groups: dict[tuple[str, str], set[str]] = {}
    for path in paths:
        parent, _, name = path.rpartition("/")
        groups.setdefault((parent, collision_key(name)), set()).add(path)
    found = (tuple(sorted(group, key=str.encode)) for group in groups.values() if len(group) > 1)
    return tuple(sorted(found))


def collision_key(name: str) -> str:
    """Return a key that is equal for names that some file system treats as equal.

    That is the canonical caseless match of Unicode.
    """
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
