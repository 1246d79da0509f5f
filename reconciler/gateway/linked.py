"""A CID as somebody wrote it: in a request or in a link, CIDv0 or CIDv1.

The rest of the program takes a CIDv0 for the CIDv1 of the same block. A client that verifies a CAR looks for
the CIDs as the links have them, so here the form is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content import dagpb
from reconciler.content.cid import Cid

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Linked:
    """A block's address, and whether it is written as CIDv0."""

    cid: Cid
    v0: bool = False

    def __bytes__(self) -> bytes:
        return b"\x12\x20" + self.cid.digest if self.v0 else bytes(self.cid)

    def __str__(self) -> str:
        return base58(bytes(self)) if self.v0 else str(self.cid)


def parse(text: str) -> Linked:
    """The CID in a request. Raises DataError as cid.parse does."""
    return Linked(cids.parse(text), v0=text.startswith("Qm"))


def links(block: bytes) -> list[tuple[dagpb.Link, Linked]]:
    """The links of a dag-pb block, each with its CID as written. Raises DataError."""
    node = dagpb.decode(block)
    forms = dagpb.link_cids(block)
    return [
        (link, Linked(link.cid, v0=not form.startswith(b"\x01")))
        for link, form in zip(node.links, forms, strict=True)
    ]


def base58(data: bytes) -> str:
    """`data` in the alphabet of base58btc."""
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text
