"""A CID as somebody wrote it: in a request or in a link, CIDv0 or CIDv1.

The rest of the program takes a CIDv0 for the CIDv1 of the same block. A client that verifies a CAR looks for
the CIDs as the links have them, so here the form is kept.

`/routing/v1/providers/{cid}`: this gateway as a provider of what its stores hold.

Source: the Delegated Routing V1 HTTP API and its filters (IPIP-484); an empty list is a 200.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.content import cid as cids
from reconciler.content import dagpb
from reconciler.content.cid import Cid
from reconciler.content.multibase import encode_base58


@dataclass(frozen=True, slots=True)
class Linked:
    """A block's address, and whether it is written as CIDv0."""

    cid: Cid
    v0: bool = False

    def __bytes__(self) -> bytes:
        return b"\x12\x20" + self.cid.digest if self.v0 else bytes(self.cid)

    def __str__(self) -> str:
        return encode_base58(bytes(self)) if self.v0 else str(self.cid)


def parse(text: str) -> Linked:
    """The CID in a request. Raises DataError as cid.parse does."""
    return Linked(cids.parse(text), v0=text.startswith("Qm"))


def links(block: bytes) -> list[tuple[dagpb.PbLink, Linked]]:
    """The links of a dag-pb block, each with its CID as written. Raises DataError."""
    node = dagpb.decode(block)
    forms = dagpb.link_cids(block)
    return [
        (link, Linked(link.cid, v0=not form.startswith(b"\x01")))
        for link, form in zip(node.links, forms, strict=True)
    ]


PROTOCOL = "transport-ipfs-gateway-http"


def record(addresses: Sequence[str]) -> dict[str, object]:
    """The peer record of a gateway at these multiaddrs.

    A gateway has no libp2p key, so its peer ID is a digest of its addresses: it tells providers apart, and
    nobody can prove to be it.
    """
    digest = hashlib.sha256("\n".join(addresses).encode()).digest()
    return {
        "Schema": "peer",
        "ID": encode_base58(b"\x12\x20" + digest),
        "Addrs": list(addresses),
        "Protocols": [PROTOCOL],
    }


def providers(
    addresses: Sequence[str], *, held: bool, query: Mapping[str, str], lines: bool
) -> tuple[bytes, str]:
    """The body and its media type; `lines` for NDJSON."""
    found = [addr for addr in addresses if _passes(query.get("filter-addrs", ""), addr.lower().split("/"))]
    protocols = {name for name in query.get("filter-protocols", "").lower().split(",") if name}
    here = held and bool(found) and (not protocols or PROTOCOL in protocols)
    records = [record(addresses) | {"Addrs": found}] if here else []
    if lines:
        return b"".join(json.dumps(one).encode() + b"\n" for one in records), "application/x-ndjson"
    return json.dumps({"Providers": records}).encode(), "application/json"


def _passes(filters: str, parts: list[str]) -> bool:
    names = [name for name in filters.lower().split(",") if name]
    wanted = [name for name in names if not name.startswith("!")]
    if any(name[1:] in parts for name in names if name.startswith("!")):
        return False
    return not wanted or any(name in parts for name in wanted)
