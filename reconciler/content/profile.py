"""The parameters of the CID profile `unixfs-v1-2025`, which every root of the reconciler follows.

The profile also requires CIDv1 with sha2-256 (`cid.py`), raw leaves and the balanced layout (`layout.py`),
and neither mode nor mtime (`unixfs.py`). Source: IPIP-499 of ipfs/specs (UnixFS CID profiles), ratified
2026-03-05.
"""

from __future__ import annotations

NAME = "unixfs-v1-2025"

CHUNK_SIZE = 1_048_576  #: bytes of every leaf of a file but the last
MAX_LINKS = 1024  #: links of one inner node of a file
HAMT_FANOUT = 256  #: slots of one HAMT shard
DIRECTORY_BLOCK_LIMIT = 262_144  #: a directory whose serialized block is larger than this becomes a HAMT
