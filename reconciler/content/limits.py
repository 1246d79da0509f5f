"""What untrusted bytes may cost: the bounds of every reader in this room.

They are generous for any real bundle and small for this machine; a DAG beyond them is refused, never half
read.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_BLOCK = 2 * 1024 * 1024  #: bytes of one block; what Bitswap carries, and twice the profile's chunk
MAX_CAR_HEADER = 1024 * 1024  #: bytes of a CAR header
MAX_CAR_SECTION = MAX_BLOCK + 128  #: bytes of a CAR section, its CID included


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one DAG."""

    depth: int = 64  #: dag-pb blocks from the root down
    blocks: int = 4 * 1024 * 1024  #: unique blocks
    tree_bytes: int = 256 * 1024 * 1024  #: of all inner nodes together
    paths: int = 1024 * 1024  #: files and directories as listed, shared ones counted each time
    path_bytes: int = 128 * 1024 * 1024  #: of all listed paths together


LIMITS = Limits()
