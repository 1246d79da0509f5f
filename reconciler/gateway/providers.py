"""`/routing/v1/providers/{cid}`: this gateway as a provider of the blocks in its stores.

Source: the Delegated Routing V1 HTTP API and its filters (IPIP-484); an empty list is a 200.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from reconciler.content.multibase import encode_base58

PROTOCOL = "transport-ipfs-gateway-http"


def peer_record(addresses: Sequence[str]) -> dict[str, object]:
    """Return the peer record of a gateway at the multiaddrs `addresses`.

    A gateway has no libp2p key, so its peer ID is a digest of its addresses. It distinguishes providers, and
    proves nothing.
    """
    digest = hashlib.sha256("\n".join(addresses).encode()).digest()
    return {
        "Schema": "peer",
        "ID": encode_base58(b"\x12\x20" + digest),
        "Addrs": list(addresses),
        "Protocols": [PROTOCOL],
    }


def providers_body(
    addresses: Sequence[str], *, has_block: bool, query: Mapping[str, str], ndjson: bool
) -> tuple[bytes, str]:
    """Return the body of a response and its media type, with the filters of `query` applied."""
    filters = query.get("filter-addrs", "")
    found = [address for address in addresses if _passes(filters, address.lower().split("/"))]
    protocols = {name for name in query.get("filter-protocols", "").lower().split(",") if name}
    listed = has_block and bool(found) and (not protocols or PROTOCOL in protocols)
    records = [peer_record(addresses) | {"Addrs": found}] if listed else []
    if ndjson:
        return b"".join(json.dumps(one).encode() + b"\n" for one in records), "application/x-ndjson"
    return json.dumps({"Providers": records}).encode(), "application/json"


def _passes(filters: str, parts: list[str]) -> bool:
    """Return whether a multiaddr with the components `parts` passes `filter-addrs`."""
    names = [name for name in filters.lower().split(",") if name]
    included = [name for name in names if not name.startswith("!")]
    if any(name[1:] in parts for name in names if name.startswith("!")):
        return False
    return not included or any(name in parts for name in included)
