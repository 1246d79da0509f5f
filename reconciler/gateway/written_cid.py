"""CIDs as clients and links write them: CIDv0, CIDv1, and identity CIDs, which contain their data.

The rest of the package represents a CIDv0 by the CIDv1 of the same block. A client that verifies a CAR
expects the CIDs as the links have them, so here the version is kept. Clients request the empty identity CID
(`bafkqaaa`) to detect a trustless gateway. Source: the Trustless Gateway specification, "Dedicated Probe
Paths".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from reconciler.content import cid as cids
from reconciler.content import dagpb
from reconciler.content.cid import IDENTITY, RAW, Cid
from reconciler.content.multibase import encode_base58
from reconciler.errors import DataError

_IDENTITY_START = "bafkqa"  # CIDv1, raw, identity, fewer than 128 bytes, in base32
_MAX_IDENTITY = 220  # characters
_KEPT = 16  # decoded nodes that are kept for the next request, about 0.5 MiB each,
_KEPT_SIZE = 64 << 10  # of blocks up to this size: a node of our profile has 1,024 links and 50 KiB


@dataclass(frozen=True, slots=True)
class WrittenCid:
    """A CID, and whether it is written as CIDv0. Its bytes and text are those of the written version."""

    cid: Cid
    v0: bool = False

    def __bytes__(self) -> bytes:
        return b"\x12\x20" + self.cid.digest if self.v0 else bytes(self.cid)

    def __str__(self) -> str:
        return encode_base58(bytes(self)) if self.v0 else str(self.cid)


@dataclass(frozen=True, slots=True)
class IdentityCid:
    """An identity CID as written, in binary, and the data that it contains."""

    text: str
    cid: bytes
    data: bytes


def parse_written_cid(text: str) -> WrittenCid:
    """Parse the CID in a request. Raises DataError."""
    return WrittenCid(cids.parse(text), v0=cids.is_v0(text))


def parse_identity(text: str) -> IdentityCid | None:
    """Parse an identity CID; None for any other CID. Raises DataError for a malformed identity CID."""
    if not text.startswith(_IDENTITY_START):
        return None
    body = text[1:]
    try:
        if len(text) > _MAX_IDENTITY or body != body.lower():
            raise ValueError
        cid = base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except (ValueError, binascii.Error):
        raise DataError("not a CID in base32") from None
    if cid[:3] != bytes((1, RAW, IDENTITY)) or len(cid) < 4 or cid[3] != len(cid) - 4:
        raise DataError("identity CID whose length differs from the length of its data")
    return IdentityCid(text, cid, cid[4:])


@dataclass(frozen=True, slots=True)
class WrittenNode:
    """A decoded dag-pb block: its links, each with its CID as written, and its data."""

    links: Sequence[tuple[dagpb.PbLink, WrittenCid]]
    data: bytes


def decode_node(block: bytes) -> WrittenNode:
    """Decode a dag-pb block. Raises DataError.

    A client that requests a file in ranges needs the same nodes for each of them, so the last ones are kept.
    """
    return _decode_once(block) if len(block) <= _KEPT_SIZE else _decode(block)


def written_links(block: bytes) -> Sequence[tuple[dagpb.PbLink, WrittenCid]]:
    """Return the links of a dag-pb block, each with its CID as written. Raises DataError."""
    return decode_node(block).links


def _decode(block: bytes) -> WrittenNode:
    node = dagpb.decode(block)
    forms = dagpb.link_cids(block)
    links = tuple(
        (link, WrittenCid(link.cid, v0=not form.startswith(b"\x01")))
        for link, form in zip(node.links, forms, strict=True)
    )
    return WrittenNode(links, node.data)


_decode_once = lru_cache(maxsize=_KEPT)(_decode)
