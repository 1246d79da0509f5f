"""The CID profile `unixfs-v1-2025`, as constants. Every root the reconciler makes follows it.

Source: IPIP-499 of ipfs/specs (UnixFS CID profiles), ratified 2026-03-05. The remaining parameters of
the profile are fixed elsewhere: CIDv1 with sha2-256 in `cid.py`, raw leaves and the balanced layout in
`layout.py`, no mode and no mtime in `unixfs.py`.

What untrusted bytes may cost: the bounds of every reader in this room.

They are generous for any real bundle and small for this machine; a DAG beyond them is refused, never half
read.

Which names a bundle may have: the same rule for packing, reading and unpacking.

dag-pb names are raw bytes. A bundle must be the same directory for every consumer, so a name is UTF-8 without
control characters, no path, and differs from its siblings by more than case or Unicode normalisation.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from reconciler.errors import DataError

NAME = "unixfs-v1-2025"

CHUNK_SIZE = 1_048_576  #: bytes of every leaf of a file but the last
MAX_LINKS = 1024  #: links of one inner node of a file
HAMT_FANOUT = 256  #: slots of one HAMT shard
DIRECTORY_BLOCK_LIMIT = 262_144  #: a directory whose serialized block is larger than this becomes a HAMT


MAX_BLOCK = 2 * 1024 * 1024  #: bytes of one block; what Bitswap carries, and twice the profile's chunk
MAX_CAR_HEADER = 1024 * 1024  #: bytes of a CAR header
MAX_CAR_SECTION = MAX_BLOCK + 128  #: bytes of a CAR section, its CID included


@dataclass(frozen=True, slots=True)
class DagLimits:
    """Bounds of one DAG."""

    depth: int = 64  #: dag-pb blocks from the root down
    blocks: int = 4 * 1024 * 1024  #: unique blocks
    tree_bytes: int = 256 * 1024 * 1024  #: of all inner nodes together
    paths: int = 1024 * 1024  #: files and directories as listed, shared ones counted each time
    path_bytes: int = 128 * 1024 * 1024  #: of all listed paths together


LIMITS = DagLimits()


MAX_NAME = 255  #: bytes; what common file systems take


def decode(name: bytes) -> str:
    """The text of one file or directory name. Raises DataError when it is not one."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise DataError(f"name {name!r} is not UTF-8") from None
    if text in ("", ".", ".."):
        raise DataError(f"{text!r} is no file name")
    if "/" in text:
        raise DataError(f"name {text!r} contains a slash")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise DataError(f"name {text!r} contains a control character")
    if len(name) > MAX_NAME:
        raise DataError(f"name {text[:40]!r}… is longer than {MAX_NAME} bytes")
    return text


def collision_key(name: str) -> str:
    """Equal for two names that some file system takes for the same (Unicode canonical caseless match)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
